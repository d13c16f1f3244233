"""Which fields of the recipe a resumed run must not change, and which it needs."""

import dataclasses

import pytest

from cnn.errors import InputError
from cnn.train.recipe import MAY_CHANGE_ON_RESUME, Recipe, identity, of_programs


def test_identity_is_every_field_that_changes_what_is_learned() -> None:
    fields = {f.name for f in dataclasses.fields(Recipe)}
    assert fields > MAY_CHANGE_ON_RESUME
    assert identity(Recipe()).keys() == fields - MAY_CHANGE_ON_RESUME
    assert identity(Recipe(devices=1)) == identity(Recipe(devices=2))
    assert identity(Recipe(lr=1.0)) != identity(Recipe(lr=2.0))


def test_steps_are_part_of_it_where_the_schedule_uses_them() -> None:
    assert identity(Recipe(steps=1)) == identity(Recipe(steps=2))
    cosine = [identity(Recipe(steps=n, schedule="cosine")) for n in (1, 2)]
    assert cosine[0] != cosine[1]


def test_programs_depend_on_the_steps_where_the_schedule_does() -> None:
    one, other = Recipe(lr=0.1, seed=1, steps=10), Recipe(lr=0.2, seed=2, steps=20)
    assert of_programs(one) == of_programs(other)
    cosine = [dataclasses.replace(r, schedule="cosine") for r in (one, other)]
    assert of_programs(cosine[0]) != of_programs(cosine[1])
    assert of_programs(one) != of_programs(dataclasses.replace(one, clip_norm=1.0))


def test_resume_needs_a_folder() -> None:
    with pytest.raises(InputError, match="need a run folder: give out"):
        Recipe(resume=True).check()
