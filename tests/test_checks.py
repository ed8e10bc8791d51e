"""Checks whose messages no other test reads."""

import pytest
import tensorflow as tf

from wmr_tf.checks import InvalidInput, number_of, one_line, radius, refuse, step


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no space\n   left on\tdevice."), "no space left on device."),
        (MemoryError(), "MemoryError"),
        (ValueError(" \n "), "ValueError"),
        (
            tf.errors.DataLossError(None, None, "{{function_node __wrapped__IteratorGetNext}} truncated\nrecord"),
            "trunc",
        ),
        (ValueError("x" * 5000), "x" * 200),
        ("a line of an error\n", "a line of an error"),
    ],
    ids=["lines", "nothing", "blank", "kernel", "long", "text"],
)
def test_an_error_in_one_line(error, said):
    found = one_line(error)
    assert found.startswith(said) if said == "trunc" else found == said
    assert "\n" not in found and "{{" not in found and len(found) <= 200


def test_a_refusal_keeps_its_cause():
    cause = KeyError("image")
    with pytest.raises(InvalidInput, match="^data: got nothing, expected images. Give some.$") as error:
        refuse("data", got="nothing", expected="images", fix="Give some.", cause=cause)
    assert error.value.__cause__ is cause


@pytest.mark.parametrize(
    ("given", "found"), [("8/255", 8 / 255), ("0.031", 0.031), (" 4 / 255 ", 4 / 255), ("1e-2/2", 0.005), (3, 3.0)]
)
def test_a_number_is_read_as_people_write_it(given, found):
    assert number_of(given) == found
    assert radius("epsilon", given, "l2") == step("step_size", given, "l2") == found


@pytest.mark.parametrize("given", ["8/0", "8/", "/255", "/", "1/2/3", "8:255", "a/b", ""])
def test_a_text_that_is_no_number_is_refused(given):
    with pytest.raises(ValueError, match=r"could not convert|divides by 0"):
        number_of(given)
    with pytest.raises(InvalidInput, match="^epsilon: got '.*', expected a finite number >= 0. Change epsilon.$"):
        radius("epsilon", given, "linf")


def test_a_radius_in_steps_of_255_is_refused_where_the_ball_would_hold_all_images():
    with pytest.raises(InvalidInput, match=r"^epsilon: got 8, expected a radius in \[0, 1\].* Pass 8/255, .* 0\.03137"):
        radius("epsilon", 8, "linf")
    assert radius("epsilon", 1, "linf") == 1.0
    assert radius("epsilon", 8, "l2") == 8.0  # of 3072 pixels
    with pytest.raises(InvalidInput, match=r"^epsilon: got -1, expected a finite number >= 0"):
        radius("epsilon", -1, "linf")
