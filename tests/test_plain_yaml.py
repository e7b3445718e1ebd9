"""YAML that people write: numbers are numbers, and nothing but plain values is read."""

import pytest
import yaml

from toolkit.plain_yaml import read_plain_yaml
from toolkit.training import read_plan


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E9", 1e9),
        ("-2.5e+3", -2500.0),
        (".5e2", 50.0),
        ("3.e4", 3e4),
        ("1.5", 1.5),
        ("12", 12),
        ("'1e3'", "1e3"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1e5x", "1e5x"),
        ("EpiRAM", "EpiRAM"),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    found = read_plain_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_what_is_dumped_is_read_again():
    values = {"a": 1e-9, "b": 1e20, "c": [1.5, -2, True, None, "text", "1:30"]}
    assert read_plain_yaml(yaml.safe_dump(values)) == values


def test_a_plan_takes_a_learning_rate_as_people_write_it(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("grid: {learning_rate: [1e-3, 1e-2]}")
    assert read_plan(path).axes["learning_rate"] == [0.001, 0.01]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rank: 3\nmethod: svd\nrank: 4", "line 3: 'rank' is there twice"),
        ("a:\n  - {b: 1, b: 1}", "line 2: 'b' is there twice"),
        ("network:\t[\n", "line 1: "),
        ("a: 1\nb: [1, 2", "line 2: "),
        ("a: !!python/name:os.system x", "line 1: could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(ValueError, match=f"not YAML: {said}"):
        read_plain_yaml(text)
