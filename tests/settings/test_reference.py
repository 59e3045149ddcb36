"""The page of all fields is made from them."""

from covjax.fields import flat_fields
from covjax.settings import default_config
from covjax.settings.reference import configuration_page
from tests.places import ROOT


def test_the_page_is_current():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    again = "python -m covjax.settings.reference > docs/reference/configuration.md"
    assert page == configuration_page(), f"run: {again}"


def test_every_field_has_a_row_with_its_meaning():
    page = configuration_page()
    for field in flat_fields(default_config("classifier", "segmenter").to_dict()):
        section, _, name = field.rpartition(".")
        table = page.split(f"## {section or 'The run'}\n")[1].split("\n## ")[0]
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        assert len(row.split(" | ")[2]) > 5
