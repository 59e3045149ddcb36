"""The page of all commands."""

from docs.make_commands import page
from tests.places import ROOT


def test_page_is_what_the_commands_say(run_command):
    again = "python docs/make_commands.py > docs/reference/commands.md"
    made = page(lambda name: run_command("covjax.commands.__main__", name, "--help").stdout)
    assert made == (ROOT / "docs" / "reference" / "commands.md").read_text(), again
