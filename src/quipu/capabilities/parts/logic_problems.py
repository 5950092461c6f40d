"""Problems whose answer is concluded: who is where, what follows, who lies, which day it is."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise, product
from random import Random

from quipu.capabilities.parts.number_problems import NAMES
from quipu.capabilities.parts.problem import Level, Maker, Problem

YES_NO = ("yes", "no")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KINDS = ("wumps", "jimps", "zorks", "blims", "tooves", "frobs", "narps", "quids")
THINGS = {
    "fruits": ("apples", "pears", "bananas", "plums"),
    "animals": ("dogs", "cows", "horses", "ducks"),
    "tools": ("hammers", "saws", "drills", "wrenches"),
    "clothes": ("shirts", "socks", "coats", "hats"),
}
COLOURS = ("red", "blue", "green", "yellow", "white")

Statement = tuple[str, int, int]
"""``all``, ``no`` or ``some``, of two terms by number."""


def things(chance: Random, level: Level) -> Problem:
    """Things of one category among others."""
    wanted, *others = chance.sample(sorted(THINGS), 2 + level)
    counted = [
        (chance.randint(1, 9), thing, kind) for kind in (wanted, *others) for thing in chance.sample(THINGS[kind], 2)
    ]
    chance.shuffle(counted)
    *most, last = [f"{count} {thing}" for count, thing, _ in counted]
    return Problem(
        f"There are {', '.join(most)} and {last}. How many {wanted} are there in all?",
        str(sum(count for count, _, kind in counted if kind == wanted)),
    )


def weekday(chance: Random, level: Level) -> Problem:
    """Days of the week, forwards and back."""
    today, days = chance.randrange(7), chance.randint(*((2, 6), (8, 40), (50, 400))[level])
    if chance.random() < 0.5:
        text, then = f"What day of the week will it be in {days} days?", today + days
    else:
        text, then = f"What day of the week was it {days} days ago?", today - days
    return Problem(f"Today is {WEEKDAYS[today]}. {text}", WEEKDAYS[then % 7], "choice", WEEKDAYS)


def calendar_date(chance: Random, level: Level) -> Problem:
    """Days after a date, across ends of months and leap days."""
    month, year = chance.choice((1, 2, 3, 4, 8, 12)), chance.randint(1996, 2032)
    start = date(year, month, chance.randint(*((1, 12), (20, 28), (20, 28))[level]))
    days = chance.randint(*((3, 12), (9, 25), (40, 90))[level])
    return Problem(
        f"Which date is {days} days after {start.isoformat()}? Give it as YYYY-MM-DD.",
        (start + timedelta(days)).isoformat(),
        "date",
    )


def clock(chance: Random, level: Level) -> Problem:
    """Arrival times, past midnight."""
    start = chance.randint(*((6 * 60, 12 * 60), (10 * 60, 18 * 60), (20 * 60, 23 * 60 + 59))[level])
    hours, minutes = chance.randint(1 + level, 4 + 2 * level), chance.randint(5, 55)
    end = (start + hours * 60 + minutes) % (24 * 60)
    return Problem(
        f"A train leaves at {start // 60:02}:{start % 60:02} and travels for {hours} hours and {minutes} minutes. At "
        f"what time does it arrive? Give it as HH:MM on a clock with 24 hours.",
        f"{end // 60:02}:{end % 60:02}",
        "time",
    )


def follows(premises: list[Statement], conclusion: Statement, terms: int) -> bool:
    """Whether ``conclusion`` is true of every world in which the premises are.

    A thing is of a type: which of the terms it is. Universal premises say which types there can be; a type that can be
    may be there or not. So a universal conclusion must hold of all types that can be, and a particular one must hold of
    all that one of the particular premises can be about.
    """
    possible = [
        each
        for each in product((False, True), repeat=terms)
        if not any(each[a] and (each[b] == (how == "no")) for how, a, b in premises if how != "some")
    ]
    how, x, y = conclusion
    if how == "all":
        return all(each[y] for each in possible if each[x])
    if how == "no":
        return not any(each[x] and each[y] for each in possible)
    return any(
        all(each[x] and each[y] for each in possible if each[a] and each[b])
        for kind, a, b in premises
        if kind == "some"
    )


def syllogism(chance: Random, level: Level) -> Problem:
    """What follows from all, no and some, of made-up nouns; asked so that yes and no are as likely."""
    terms = 3 + (level > 0)
    kinds = chance.sample(KINDS, terms)
    premises: list[Statement] = [("all", a, b) for a, b in pairwise(range(terms))]
    if level > 0:
        premises[-1] = (chance.choice(("all", "no")), terms - 2, terms - 1)
    if level == 2:
        premises[0] = ("some", 0, 1)
    hows = ["all"] if level == 0 else ["all", "no"] if level == 1 else ["some", "no", "all"]
    conclusions = [(how, a, b) for how in hows for a in range(terms) for b in range(terms) if a != b]
    conclusions = [each for each in conclusions if each not in premises]
    wanted = chance.random() < 0.5
    fitting = [each for each in conclusions if follows(premises, each, terms) == wanted]
    how, a, b = chance.choice(fitting or conclusions)
    told = [f"{how.capitalize()} {kinds[a]} are {kinds[b]}." for how, a, b in premises]
    chance.shuffle(told)
    right = follows(premises, (how, a, b), terms)
    return Problem(
        f"{' '.join(told)} Does it follow that {how} {kinds[a]} are {kinds[b]}? Answer yes or no.",
        YES_NO[not right],
        "choice",
        YES_NO,
    )


def ranking(chance: Random, level: Level) -> Problem:
    """Who is where in an order that is told in pairs."""
    names = chance.sample(NAMES, 3 + level)
    told = [
        f"{tall} is taller than {small}." if chance.random() < 0.5 else f"{small} is shorter than {tall}."
        for tall, small in pairwise(names)
    ]
    chance.shuffle(told)
    place = chance.choice((0, len(names) - 1)) if level == 0 else chance.randrange(1, len(names) - 1)
    which = {0: "tallest", len(names) - 1: "shortest", 1: "second tallest", 2: "third tallest", 3: "fourth tallest"}[
        place
    ]
    return Problem(f"{' '.join(told)} Who is the {which}?", names[place], "choice", tuple(sorted(names)))


def race(chance: Random, level: Level) -> Problem:
    """The whole of an order that is told in pairs."""
    names = chance.sample(NAMES, 3 + level)
    told = [
        f"{first} came in before {second}." if chance.random() < 0.5 else f"{second} came in after {first}."
        for first, second in pairwise(names)
    ]
    chance.shuffle(told)
    return Problem(
        f"{len(names)} people ran a race. {' '.join(told)} List all names from the first to the last, "
        f"with commas between.",
        ", ".join(names),
        "order",
        tuple(sorted(names)),
    )


def liars(chance: Random, level: Level) -> Problem:
    """Statements are drawn until exactly one world fits them."""
    names = chance.sample(NAMES, 3 + (level == 2))
    honest = 1 if level == 0 else chance.choice((1, 2))
    worlds = [each for each in product((False, True), repeat=len(names)) if sum(each) == honest]
    while True:
        said: list[tuple[int, int, int | None, bool]] = []
        for speaker in range(len(names)):
            other, another = chance.sample([each for each in range(len(names)) if each != speaker], 2)
            third = another if level and chance.random() < 0.4 else None
            said.append((speaker, other, third, chance.random() < 0.4))
        fitting = [
            world
            for world in worlds
            if all(
                world[speaker] == (world[other] == truth and (third is None or world[third] == truth))
                for speaker, other, third, truth in said
            )
        ]
        if len(fitting) == 1:
            break
    told = []
    for speaker, other, third, truth in said:
        claim = f"{names[other]} {'tells the truth' if truth else 'lies'}"
        if third is not None:
            claim = f"{names[other]} and {names[third]} both {'tell the truth' if truth else 'lie'}"
        told.append(f'{names[speaker]} says: "{claim}."')
    start = f"Each of {', '.join(names[:-1])} and {names[-1]} either always tells the truth or always lies."
    [world] = fitting
    if honest == 2 and len(names) == 4:
        asked = chance.randrange(len(names))
        return Problem(
            f"{start} Exactly two of them tell the truth. {' '.join(told)} Does {names[asked]} tell the truth? Answer "
            f"yes or no.",
            YES_NO[not world[asked]],
            "choice",
            YES_NO,
        )
    verb = "tells the truth" if honest == 1 else "lies"
    return Problem(
        f"{start} Exactly one of them {verb}. {' '.join(told)} Who {verb}?",
        names[world.index(honest == 1)],
        "choice",
        tuple(sorted(names)),
    )


def swaps(chance: Random, level: Level) -> Problem:
    """Who has what after exchanges."""
    names = chance.sample(NAMES, 3 + level)
    colours = list(COLOURS[: len(names)])
    chance.shuffle(colours)
    has = dict(zip(names, colours, strict=True))
    told = [f"{name} has a {colour} ball." for name, colour in has.items()]
    for _ in range(2 + 2 * level):
        one, other = chance.sample(names, 2)
        has[one], has[other] = has[other], has[one]
        told.append(f"Then {one} and {other} swap their balls.")
    colour = chance.choice(colours)
    owner = next(name for name, its in has.items() if its == colour)
    return Problem(f"{' '.join(told)} Who has the {colour} ball now?", owner, "choice", tuple(sorted(names)))


def truth_value(chance: Random, level: Level) -> Problem:
    """An expression of and, or and not."""

    def made(depth: int) -> tuple[str, bool]:
        if depth == 0:
            value = chance.random() < 0.5
            return str(value), value
        (left, a), (right, b) = made(depth - 1), made(depth - 1 if chance.random() < 0.5 else 0)
        text, value = (f"{left} and {right}", a and b) if chance.random() < 0.5 else (f"{left} or {right}", a or b)
        return (f"not ({text})", not value) if chance.random() < 0.4 else (f"({text})", value)

    text, value = made(1 + level)
    return Problem(f"Is this true or false: {text}?", str(value).lower(), "choice", ("true", "false"))


def walk(chance: Random, level: Level) -> Problem:
    """The way back over a grid."""
    north, south, east, west = (chance.randint(2, 15) for _ in range(4))
    if level == 0:
        text, far = f"{north + south} steps north and then {south} steps south", north
    elif level == 1:
        text, far = f"{north} steps north, {east} steps east and {north} steps south", east
    else:
        text = f"{north} steps north, {east} steps east, {south} steps south and {west} steps west"
        far = abs(north - south) + abs(east - west)
    name = chance.choice(NAMES)
    return Problem(
        f"{name} walks {text}. How many steps is the shortest way back to the start, going only north, south, east and "
        f"west?",
        str(far),
    )


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (things, weekday, calendar_date, clock, syllogism, ranking, race, liars, swaps, truth_value, walk)
}  # fmt: skip
