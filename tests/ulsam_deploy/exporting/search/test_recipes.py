"""A recipe file comes back as it was written, and says what is wrong where somebody wrote it by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.precisions import PRECISIONS, QUANTIZED
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search import Recipes, read_recipes, recipes_text

PATHS = st.lists(st.text("az09._-#é𐀀'\"\\ ", min_size=1, max_size=8), max_size=4).map(tuple)
FORMS = st.dictionaries(st.text('az09/x "\\', min_size=1, max_size=8), st.text("ab_", min_size=1), max_size=3).map(
    lambda forms: tuple(forms.items())
)
RECIPE = st.sampled_from(PRECISIONS).flatmap(
    lambda p: st.builds(
        Recipe, st.just(p), PATHS if p in QUANTIZED else st.just(()), FORMS if p == "fp32" else st.just(())
    )
)
HEAD = 'schema = "ulsam-deploy.recipe/1"\nmodel = "ab"\n'


@given(st.dictionaries(st.text('abcxyz-_."', min_size=1, max_size=6), RECIPE, min_size=1, max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, targets: dict[str, Recipe]) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_text(recipes_text(Recipes("ab" * 32, targets)), encoding="utf-8")
    assert read_recipes(path) == Recipes("ab" * 32, targets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing"),
        ('schema = "other/1"\nmodel = "ab"\n[targets.onnx]\nprecision = "fp32"\n', "expected: schema"),
        (HEAD, "holds model, schema"),
        (HEAD + "targets = 3\n", "names no targets"),
        (HEAD + '[targets.onnx]\nprecision = "int4"\n', "no precision is called 'int4'; did you mean 'int8'"),
        (HEAD + '[targets.onnx]\nprecision = "fp16"\nkeep = ["a"]\n', "fp16 keeps modules"),
        (HEAD + '[targets.onnx]\nprecision = "int8"\nkeep = "a"\n', "keep is 'a'"),
        (HEAD + '[targets.onnx]\nprecision = "int8"\nspeed = 3\n', "is not a recipe"),
        (HEAD + '[targets.onnx]\nprecision = "fp32"\nlowerings = ["a"]\n', "lowerings are ['a']"),
        (HEAD + '[targets.onnx]\nprecision = "fp16"\nlowerings = { a = "b" }\n', "fp16 chooses lowerings"),
        ("[", "isn't valid TOML"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_recipes(path)
    assert said in str(error.value)


def test_a_recipe_names_things_as_people_do(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        'schema = "ulsam-deploy.recipe/1"\nmodel = "ab"\n[targets.LiteRT]\nprecision = "float32"\n'
    )
    assert read_recipes(tmp_path / "r.toml").targets == {"tflite": Recipe("fp32")}
