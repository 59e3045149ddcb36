"""The presets of the enhancement by name, see `covjax.preprocess.enhance`; imports nothing."""

from typing import NamedTuple


class Recipe(NamedTuple):
    summary: str
    wavelet: str
    size: tuple[int, int]  # default output size
    depth: int = 1  # the level whose LL and HH are the two branches
    keeps_all: bool = True  # whether the next level's LH and HL survive in the inverse
    uint8: bool = False  # whether each branch is stored as uint8 before the addition


RECIPES = {
    "paper_text": Recipe(
        "the paper's text: Haar, LL and HH added with saturation, 82x82", "haar", (82, 82)
    ),
    "prlab21": Recipe(
        "the released code: db4, branches as uint8, 156x156", "db4", (156, 156), uint8=True
    ),
    "db4_82": Recipe(
        "db4 one level deeper than the release, natively 82x82", "db4", (82, 82), depth=2
    ),
    "ll_hh_only": Recipe(
        "the strict reading: Haar, all but LL and HH of level 2 dropped, 82x82",
        "haar",
        (82, 82),
        keeps_all=False,
    ),
}
PRESETS: dict[str, str] = {
    "none": "the slice itself",
    **{name: recipe.summary for name, recipe in RECIPES.items()},
}
# What a constant image is multiplied by in LL, relative to the orthonormal transform.
GAINS = {"orthonormal": 1.0, "unit": 0.5}
