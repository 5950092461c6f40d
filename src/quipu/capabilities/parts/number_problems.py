"""Problems whose answer is worked out: arithmetic, word problems, fractions, units, sequences, counting."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

from quipu.capabilities.parts.problem import Level, Maker, Problem

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas")
WORDS = (
    "strawberry",
    "banana",
    "mississippi",
    "llama",
    "committee",
    "bookkeeper",
    "parallel",
    "assessment",
    "tennessee",
    "cucumber",
    "pepper",
    "address",
    "success",
    "coffee",
    "occurrence",
    "balloon",
    "raccoon",
    "grammar",
    "mirror",
    "possession",
)


def expression(chance: Random, level: Level) -> Problem:
    """An expression of sums, products and brackets."""
    a, b, c, d, e = (chance.randint(2, 9 + 10 * level) for _ in range(5))
    text, value = (
        (f"{a * 5} + {b * 3} - {c}", a * 5 + b * 3 - c),
        (f"{a * 7} - {b} * {c} + {d}", a * 7 - b * c + d),
        (f"({a} + {b}) * {c} - {d} * {e}", (a + b) * c - d * e),
    )[level]
    return Problem(f"Compute {text}.", str(value))


def shopping(chance: Random, level: Level) -> Problem:
    """Change and discounts."""
    name = chance.choice(NAMES)
    pens, books = chance.randint(2, 6), chance.randint(2, 5)
    pen, book = chance.randint(2, 4), chance.randint(5, 9)
    cost = pens * pen + books * book
    if level == 0:
        return Problem(
            f"{name} buys {pens} pens. Each pen costs ${pen}. {name} pays with $50. How much change does {name} get?",
            str(50 - pens * pen),
        )
    if level == 1:
        return Problem(
            f"{name} buys {pens} pens for ${pen} each and {books} books for ${book} each, and pays with a $100 bill. "
            f"How much change does {name} get?",
            str(100 - cost),
        )
    off = chance.choice((10, 20, 25, 50))
    return Problem(
        f"{name} buys {pens} pens for ${pen} each and {books * 4} books for ${book} each. The shop takes {off}% off "
        f"the price of the books, not of the pens. How many dollars does {name} pay?",
        str(Fraction(pens * pen) + Fraction(books * 4 * book * (100 - off), 100)),
    )


def travel(chance: Random, level: Level) -> Problem:
    """Speed, time and distance."""
    speed, other, hours, more = chance.randint(4, 12) * 10, chance.randint(4, 12) * 5, *chance.sample(range(2, 7), 2)
    if level == 0:
        return Problem(
            f"A car drives {speed} km an hour for {hours} hours. How many km does it drive?", str(speed * hours)
        )
    if level == 1:
        return Problem(
            f"A bus drives {speed} km an hour for {hours} hours, rests for an hour, and then drives {other} km an hour "
            f"for {more} hours. How many km does it drive in all?",
            str(speed * hours + other * more),
        )
    return Problem(
        f"Two towns are {(speed + other) * hours} km apart. Two trains leave them at the same moment towards each "
        f"other, one at {speed} km an hour, the other at {other} km an hour. After how many hours do they meet?",
        str(hours),
    )


def sharing(chance: Random, level: Level) -> Problem:
    """Equal shares, and work that many do."""
    people, each, lost = chance.randint(3, 9), chance.randint(4, 15), chance.randint(2, 12)
    if level == 0:
        return Problem(f"{people} friends share {people * each} sweets equally. How many does each get?", str(each))
    if level == 1:
        return Problem(
            f"A box holds {people * each + lost} apples. {lost} of them are bad and are thrown away. The rest is "
            f"shared equally by {people} families, and each family eats {each // 2} of its apples. How many apples has "
            f"each family left?",
            str(each - each // 2),
        )
    walls, hours = chance.randint(2, 5), chance.randint(2, 6)
    return Problem(
        f"{people} painters paint {walls} walls in {hours} hours, all at the same speed. How many hours do "
        f"{people * 2} painters need for {walls * 4} walls?",
        str(hours * 2),
    )


def fractions(chance: Random, level: Level) -> Problem:
    """Sums and products of fractions."""
    below, other, third = chance.sample(range(3, 10), 3)
    first = Fraction(chance.randint(1, below - 1), below)
    second = Fraction(chance.randint(1, other - 1), other)
    if level == 0:
        a, b = chance.randint(1, below), chance.randint(1, below)
        text, value = f"{a}/{below} + {b}/{below}", Fraction(a + b, below)
    elif level == 1:
        text, value = f"{first} + {second}", first + second
    else:
        text, value = f"{first} * {second} - 1/{third}", first * second - Fraction(1, third)
    return Problem(f"What is {text}? Give the exact result as a fraction.", str(value))


def percent(chance: Random, level: Level) -> Problem:
    """Parts of a hundred, and what rises and falls."""
    base, up, down = chance.randint(2, 12) * 100, chance.randint(1, 9) * 10, chance.randint(1, 8) * 10
    if level == 0:
        return Problem(f"What is {up}% of {base}?", str(base * up // 100))
    if level == 1:
        return Problem(
            f"A town had {base} inhabitants. Then the number grew by {up}%. How many inhabitants has it now?",
            str(base * (100 + up) // 100),
        )
    return Problem(
        f"A share costs ${base}. Its price rises by {up}%, and then the new price falls by {down}%. What is the price "
        f"in dollars then?",
        str(base * (100 + up) * (100 - down) // 10_000),
    )


def remainders(chance: Random, level: Level) -> Problem:
    """Division with a remainder."""
    a, b, c = chance.randint(50, 400), *chance.sample(range(4, 13), 2)
    if level == 0:
        return Problem(f"What is the remainder when {a} is divided by {b}?", str(a % b))
    if level == 1:
        both = math.lcm(b, c)
        return Problem(
            f"What is the smallest whole number greater than {a} that is divisible by both {b} and {c}?",
            str((a // both + 1) * both),
        )
    hidden = chance.randint(10, 60)
    smallest = next(n for n in range(1, 200) if n % b == hidden % b and n % c == hidden % c)
    return Problem(
        f"What is the smallest positive whole number that leaves remainder {hidden % b} when divided by {b} and "
        f"remainder {hidden % c} when divided by {c}?",
        str(smallest),
    )


def sequence(chance: Random, level: Level) -> Problem:
    """The next term: arithmetic, geometric, quadratic, or the sum of two before it."""
    a, step, factor = chance.randint(1, 20), chance.randint(3, 12), chance.randint(2, 4)
    if level == 0:
        terms = [a + step * place for place in range(6)]
    elif level == 1:
        terms = [a * factor**place for place in range(6)]
    elif chance.random() < 0.5:
        terms = [a + step * place + factor * place * (place - 1) // 2 for place in range(7)]
    else:
        terms = [a, a + step]
        while len(terms) < 7:
            terms.append(terms[-1] + terms[-2])
    *shown, following = terms
    return Problem(f"What number comes next: {', '.join(map(str, shown))}?", str(following))


def units(chance: Random, level: Level) -> Problem:
    """From one unit to another."""
    n, minutes, seconds = chance.randint(2, 40), chance.randint(2, 58), chance.randint(1, 59)
    if level == 0:
        text, value = chance.choice(
            (
                (f"How many meters are {n} kilometers?", n * 1000),
                (f"How many hours are {n} days?", n * 24),
                (f"How many grams are {n} kilograms?", n * 1000),
                (f"How many centimeters are {n} meters?", n * 100),
            )
        )
    elif level == 1:
        text, value = chance.choice(
            (
                (f"How many minutes are {n} hours and {minutes} minutes?", n * 60 + minutes),
                (f"How many millimeters are {n} meters and {seconds} centimeters?", n * 1000 + seconds * 10),
                (f"How many hours are {n} weeks and {seconds} hours?", n * 168 + seconds),
            )
        )
    else:
        text, value = chance.choice(
            (
                (f"How many meters a second are {n * 18} kilometers an hour?", n * 5),
                (
                    f"How many seconds are {n} hours, {minutes} minutes and {seconds} seconds?",
                    n * 3600 + minutes * 60 + seconds,
                ),
                (f"How many square centimeters are {n} square meters?", n * 10_000),
            )
        )
    return Problem(text, str(value))


def ages(chance: Random, level: Level) -> Problem:
    """Who is how old."""
    first, second = chance.sample(NAMES, 2)
    young, factor = chance.randint(4, 15), chance.randint(2, 4)
    older = chance.randint(2, 20)
    if level == 0:
        return Problem(
            f"{second} is {young} years old. {first} is {older} years older than {second}. How old is {first}?",
            str(young + older),
        )
    if level == 1:
        return Problem(
            f"{first} is {factor} times as old as {second}. Together they are {young * (factor + 1)} years old. How "
            f"old is {first}?",
            str(young * factor),
        )
    years = chance.randint(2, young - 1)
    return Problem(
        f"{first} is {young} years older than {second}. In {years} years {first} will be twice as old as {second} will "
        f"be then. How old is {first} now?",
        str(2 * young - years),
    )


def groups_of_people(chance: Random, level: Level) -> Problem:
    """Two sets that overlap."""
    football, chess, both, neither = (chance.randint(low, low + 8) for low in (6, 5, 2, 1))
    everyone = football + chess + both + neither
    told = f"Of {everyone} children, {football + both} play football, {chess + both} play chess"
    if level == 0:
        return Problem(f"{told}, and {both} do both. How many play football but not chess?", str(football))
    if level == 1:
        return Problem(f"{told}, and {both} do both. How many do neither?", str(neither))
    return Problem(f"{told}, and {neither} do neither. How many play exactly one of the two?", str(football + chess))


def largest(chance: Random, level: Level) -> Problem:
    """Decimals that look larger than they are."""
    whole = chance.randint(1, 20)
    tenth = chance.randint(3, 9)
    close = [f"{whole}.{tenth}", f"{whole}.{chance.randint(10, tenth * 10 - 1)}", f"{whole}.0{chance.randint(1, 9)}"]
    close += [f"{whole}.{chance.randint(100, tenth * 100 - 1)}", f"{whole - 1}.99"][:level]
    chance.shuffle(close)
    what, pick = chance.choice((("largest", max), ("smallest", min)))
    return Problem(f"Which of these numbers is the {what}: {', '.join(close)}?", pick(close, key=Fraction))


def letters(chance: Random, level: Level) -> Problem:
    """Letters in words."""
    words = chance.sample(WORDS, 1 + 2 * level)
    text = " ".join(words)
    letter = chance.choice(sorted({each for each in text if text.count(each) > 1 + level}) or ["e"])
    where = f'the word "{text}"' if level == 0 else f'the words "{text}"'
    return Problem(f'How many times does the letter "{letter}" occur in {where}?', str(text.count(letter)))


def average(chance: Random, level: Level) -> Problem:
    """Means, and the value that one lacks."""
    count = 3 + level
    values = [chance.randint(2, 30) for _ in range(count - 1)]
    mean = chance.randint(max(1, sum(values) // count), 40)
    last = mean * count - sum(values)
    if level < 2:
        return Problem(f"What is the average of {', '.join(map(str, [*values, last]))}?", str(mean))
    return Problem(
        f"The average of {count} numbers is {mean}. {count - 1} of them are {', '.join(map(str, values))}. What is the "
        f"other one?",
        str(last),
    )


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        expression, shopping, travel, sharing, fractions, percent, remainders, sequence, units, ages, groups_of_people,
        largest, letters, average,
    )
}  # fmt: skip
