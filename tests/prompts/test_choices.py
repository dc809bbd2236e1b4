"""Which option an answer in chat names: by a letter, by a choice's text, or none."""

import pytest

from text2sql.prompts.choices import chosen_option

CITIES = ("Paris", "London", "Berlin", "Rome")
WORDS = ("A rise in demand", "Vitamin C", "Both A and B", "None of these.")
NUMBERS = ("5", "-5", "0.5", "1,500")
LETTER_OF = {letter: place for place, letter in enumerate("ABCD")} | {"-": None}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        # As models answer.
        ("B", "B"),
        ("B.", "B"),
        (" (B)", "B"),
        ("**B**", "B"),
        ("_B_", "B"),
        ("B)London", "B"),
        ("B. London", "B"),
        ("Answer:B", "B"),
        ("The correct answer is B.", "B"),
        ("The answer is:\n\n$\\boxed{C}$", "C"),
        ("Option D: Rome", "D"),
        ("D. Rome\n\nExplanation: Rome has been the capital since 1871. Paris is in France, London in England.", "D"),
        ("B\nB\nB\nB", "B"),
        ("London", "B"),
        ("london.", "B"),
        ("The capital of the United Kingdom is **London**.", "B"),
        ("<think>Is it A or C? C, I think.</think>\nB", "B"),
        ("B<|im_end|>\n<|im_start|>user\nAnd A?", "B"),
        # None, or two different ones.
        ("", "-"),
        ("I don't know.", "-"),
        ("b", "-"),
        ("E", "-"),
        ("A or B", "-"),
        ("A/B", "-"),
        ("A. Paris\nB. London\nC. Berlin\nD. Rome", "-"),
        ("London and Paris", "-"),
        ("Londonderry", "-"),
        ("<think>It is B, since", "-"),
        # Capitals that are no option.
        ("A city in the north", "-"),
        ("A is right", "A"),
        ("A because it is the capital", "A"),
        ("A city in the north, so D", "D"),
        ("It is in Washington D.C. and nowhere else", "-"),
        ("C++ or C#", "-"),
        ("B-cells", "-"),
        ("Plan A's end", "-"),
        ("ABCD", "-"),
    ],
)
def test_the_option_that_an_answer_names(answer, letter):
    assert chosen_option(answer, CITIES) == LETTER_OF[letter]


@pytest.mark.parametrize(
    ("answer", "choices", "letter"),
    [
        ("A rise in demand", WORDS, "A"),
        ("D. A rise in demand", WORDS, "D"),
        ("Both A and B", WORDS, "C"),
        ("C. Both A and B", WORDS, "C"),
        ("B. Vitamin C", WORDS, "B"),
        ("none of these", WORDS, "D"),
        ("5", NUMBERS, "A"),
        ("-5", NUMBERS, "B"),
        ("It is 0.5.", NUMBERS, "C"),
        ("15", NUMBERS, "-"),
        ("1,500", NUMBERS, "D"),
        ("5.5", NUMBERS, "-"),
        ("dark  red", ("red", "dark red", "blue", "green"), "B"),
        ("red, not dark red", ("red", "dark red", "blue", "green"), "-"),
        ("same", ("same", "same", "other", "none"), "-"),
        ("a", ("a", "b", "c", "d"), "-"),
        ("A", ("B", "A", "AB", "0"), "A"),
        ("İstanbul, then London", CITIES, "B"),
    ],
)
def test_choices_that_hold_letters_numbers_or_one_another(answer, choices, letter):
    assert chosen_option(answer, choices) == LETTER_OF[letter]


def test_what_sql_holds_names_nothing():
    answer = "SELECT name FROM city WHERE name = 'London' AND grade = 'B'"
    assert chosen_option(answer, CITIES) == 1
    assert chosen_option(answer, CITIES, without=answer) is None
    assert chosen_option(f"D.\n{answer}", CITIES, without=answer) == 3
