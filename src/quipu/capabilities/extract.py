"""Take data out of a text, to a schema in whichever notation, with where each value stands and how sure it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial, reduce
from itertools import chain
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from quipu.capabilities import base
from quipu.capabilities.base import Delta, Event, Probe, Progress, Score, Source, Typed, required_text, result_of
from quipu.capabilities.parts import sentence
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.confidence import confidence, is_calibrated
from quipu.capabilities.parts.constrained import ConstrainedAnswer, constrained
from quipu.capabilities.parts.evidence import Evidence, Found, found_in
from quipu.capabilities.parts.extract_request import request
from quipu.capabilities.parts.field_score import f1, right_fields
from quipu.capabilities.parts.json_places import Path
from quipu.capabilities.parts.merging import joined, merged
from quipu.capabilities.parts.notations import Notation, schema_of, written
from quipu.capabilities.parts.overlapping import stitched
from quipu.capabilities.parts.papers import LETTERS, WANTED, Paper, papers
from quipu.capabilities.parts.record_schema import RECORDS, RecordSchema
from quipu.capabilities.parts.record_table import Format, as_text
from quipu.capabilities.parts.section_plan import SHORTEST_ANSWER, SectionPlan
from quipu.errors import InvalidRequest, did_you_mean, field_path
from quipu.types import Generator, Message

WANTED_HELP = (
    "What to extract: a sentence; columns (name:str, total:float); a field a line (total: in euros); choices (spam | "
    "ham); a regular expression between slashes; or a JSON Schema."
)


class Input(base.Input):
    """A text, and what to take out of it."""

    text: str = Field(description="The text to extract from, of any length.", min_length=1)
    wanted: Annotated[str, BeforeValidator(written, json_schema_input_type=str | dict[str, Any] | list[str])] = Field(
        description=WANTED_HELP, max_length=100_000, examples=["name:str, total:float"]
    )
    notation: Notation = Field("auto", description="How that is written; auto tells by its look.")
    many: bool = Field(False, description="Whether the text has any number of such records, not one.")
    key: list[str] = Field(
        [], description="Fields that tell records apart: those that agree in all of them are joined to one."
    )
    format: Format = Field("json", description="How the data is written.")
    max_calls: int = Field(
        100, description="Most calls of the model that a long text may take; one that takes more is refused.", ge=1
    )


class Value(Typed):
    """One value and what speaks for it."""

    path: str = Field(description="Where it is in the records, as in [0].items[2].price.")
    value: Any = Field(description="The value.")
    quoted: bool = Field(description="Whether the text has it, as words or a number of its own.")
    start: int | None = Field(description="Where it begins in the text, in characters; none if it is not quoted.")
    end: int | None = Field(description="Where it ends.")
    probability: float | None = Field(description="How probable its tokens were to the model, all together.")
    confidence: float | None = Field(
        description="The share of right values among such in probes; none if this was not measured with this model."
    )


class Output(base.Output):
    """The data, and where it comes from."""

    data: str = Field(description="The records, in the format that was asked for.")
    records: list[dict[str, Any]] = Field(description="The records.")
    values: list[Value] = Field(description="Each value of each record, and what speaks for it.")
    json_schema: dict[str, Any] = Field(description="What was extracted; give it as wanted for the same again.")


class Extract(base.Answering):
    """Fields of a text, each with its source."""

    title = "Extract"
    description = (
        "Extract structured data from a text, an email, invoice, receipt, form, CV or listing, to fields named in a "
        "sentence, as columns or as JSON Schema: names, dates, amounts, items, as JSON, CSV or a table, with the place "
        "of each value in the text and a confidence."
    )
    phrases = (
        "extract the invoice number and the total",
        "turn this email into fields",
        "structured data from unstructured text",
        "pull names, dates and amounts out of a document",
        "convert this receipt to JSON",
        "make a CSV table of all items in the text",
        "parse a CV into key-value pairs",
        "fill a JSON schema from a text",
        "named entity recognition",
        "Extrahiere Name und Betrag aus dieser Rechnung",
        "extraire les données d'une facture",
        "extraer los datos de este correo",
        "estrai i dati dalla ricevuta",
        "extrair campos deste documento",
        "इस बिल से जानकारी निकालो",
        "ดึงข้อมูลจากใบเสร็จ",
    )
    input = Input
    output = Output
    text_field = "text"
    view = "spans"
    metric = "F1 of the fields: right values among those found and those to find, records paired by what they share"
    binary = False
    baseline = 0.136
    baseline_name = "the first words of the text for a text, its first number for a number, the first choice"
    sources = (Source("procedural: invoices, messages, listings, receipts, letters in eight languages", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """For a text that is read at once; of a sentence, the question what its fields are, which comes first."""
        schema = schema_of(given.wanted, given.notation)
        return sentence.request(given.wanted) if schema is None else request(given.text, _shape(given))

    def parse(self, text: str, given: Input) -> Output:
        """The JSON in it, checked, with the places of its values in the text."""
        shape = _shape(given)
        found = _read(ConstrainedAnswer(text), shape, given.text, 0)
        return _output(joined(found, given.key) if shape.many else found, shape, given, "")

    def render(self, output: Output, given: Input) -> str:
        """JSON on one line."""
        value = {RECORDS: output.records} if _shape(given).many else output.records[0]
        return json.dumps(value, ensure_ascii=False)

    def longest(self, given: Input) -> int:
        """About as many tokens as the text has, as if it were all data."""
        return SHORTEST_ANSWER + len(given.text.encode()) // 3

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """First the fields, if a sentence says them; then sections, all at the model at once."""
        if not given.text.strip():
            raise InvalidRequest("text has nothing but white space; give it some words", param="text")
        calls = Calls(model, {**self.sampling, **sampling})
        if schema_of(given.wanted, given.notation) is None:
            yield Progress(0, 1, "reading what is wanted")
            said = {"wanted": given.wanted, "notation": given.notation}
            given = given.model_copy(update=self.settled(model, said, sampling, calls))
        shape = _shape(given)
        _check_key(given, shape)
        plan = SectionPlan(model, shape)
        spans = plan.sections(given.text, given.max_calls)
        pieces = [given.text[start:end] for start, end in spans]
        answers: dict[int, ConstrainedAnswer] = {}
        if len(pieces) == 1:
            answer = answers[0] = ConstrainedAnswer()
            for chunk in constrained(calls, request(given.text, shape), self.longest(given), shape.answer):
                answer.take(chunk)
                if chunk.text:
                    yield Delta(chunk.text)
        else:
            for place, answer in calls.all([partial(_asked, calls, piece, shape, plan.longest) for piece in pieces]):
                answers[place] = answer
                yield Progress(len(answers), len(pieces), "reading sections")
        read = [_read(answers[place], shape, piece, spans[place][0]) for place, piece in enumerate(pieces)]
        found = stitched(read) if shape.many else list(chain.from_iterable(read))
        kept = joined(found, given.key) if shape.many else [reduce(merged, found)]
        output = _output(kept, shape, given, model.facts.name)
        notes = _notes(output, answers, len(found) - len(kept) if shape.many else 0, model.facts.name)
        yield result_of(calls, output, answers[len(pieces) - 1].text, tuple(notes))

    def settled(
        self, model: Generator, fields: Mapping[str, Any], sampling: Mapping[str, Any], calls: Calls | None = None
    ) -> Mapping[str, Any]:
        """What a sentence wants, as JSON Schema, which the model says."""
        wanted, notation = written(fields.get("wanted", "")), fields.get("notation", "auto")
        if not isinstance(wanted, str) or not wanted.strip() or schema_of(wanted, notation) is not None:
            return fields
        calls = calls or Calls(model, {**self.sampling, **sampling})
        answer = ConstrainedAnswer()
        # Not by chance, whatever values are: a batch that is taken up again has to come to the same fields.
        asked = sentence.request(wanted)
        for chunk in constrained(calls, asked, sentence.LONGEST, sentence.FIELDS, temperature=0):
            answer.take(chunk)
        schema = json.dumps(sentence.schema_from(answer.text), ensure_ascii=False)
        return {**fields, "wanted": schema, "notation": "schema"}

    def rows(self, output: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row for each record, and which of its fields the text does not have."""
        missing: dict[str, list[str]] = {}
        for each in output["values"]:
            if not each["quoted"] and _is_quotable(each["value"]):
                number, _, path = each["path"].partition("].")
                missing.setdefault(number, []).append(path)
        return [
            {**record, "not_in_text": ", ".join(missing.get(f"[{number}", ()))}
            for number, record in enumerate(output["records"])
        ]

    def make_probes(self) -> Iterator[Probe]:
        """Each paper of each kind in each language."""
        for paper in papers():
            many = paper.kind == "receipt"
            given = {"text": paper.text, "wanted": WANTED[paper.kind], **({"many": True} if many else {})}
            value = {RECORDS: paper.records} if many else paper.records[0]
            yield Probe(
                given=given,
                expected={"records": paper.records},
                answer=json.dumps(value, ensure_ascii=False),
                group=f"{paper.kind}-{paper.language}",
                difficulty=_difficulty(paper),
                part=paper.language,
            )

    def score(self, output: Output, probe: Probe) -> Score:
        """``measured`` has of each value, by its number, whether it is right, its probability, whether it is quoted."""
        expected = probe.expected["records"]
        value = f1(output.records, expected)
        right = set(right_fields(output.records, expected))
        measured = {"f1": value, "fields": float(sum(len(record) for record in output.records))}
        top = {f"[{number}].{name}": (number, name) for number, record in enumerate(output.records) for name in record}
        for place, each in enumerate(each for each in output.values if each.path in top):
            measured[f"right {place}"] = float(top[each.path] in right)
            measured[f"quoted {place}"] = float(each.quoted)
            if each.probability is not None:
                measured[f"probability {place}"] = each.probability
        wrong = [path for path, key in top.items() if key not in right]
        return Score(value, value == 1.0, f"wrong: {', '.join(wrong)[:200]}" if wrong else "", measured)

    def trivial(self, probe: Probe) -> str:
        """See ``baseline_name``."""
        text = str(probe.given["text"])
        words = text.split()
        number = float((re.findall(r"\d+", text) or ["0"])[0])
        record: dict[str, Any] = {}
        for name, value in probe.expected["records"][0].items():
            record[name] = number if isinstance(value, int | float) else " ".join(words[:2])
            if isinstance(value, bool):
                record[name] = True
            elif isinstance(value, int):
                record[name] = int(number)
        if "value" in record:
            record["value"] = LETTERS[0] if "|" in probe.given["wanted"] else None
        return json.dumps({RECORDS: [record]} if probe.given.get("many") else record, ensure_ascii=False)

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """F1 by kind of paper, and the share of values that are quotations and that are right."""
        kinds: dict[str, list[float]] = {}
        for probe, score in scored:
            kinds.setdefault(probe.group.partition("-")[0], []).append(score.value)
        values = [value for _, score in scored for name, value in score.measured.items() if name.startswith("right ")]
        quoted = [value for _, score in scored for name, value in score.measured.items() if name.startswith("quoted ")]
        shares = {"right": values, "quoted": quoted}
        return {
            "f1_by_kind": {kind: round(sum(each) / len(each), 3) for kind, each in sorted(kinds.items())},
            **{name: round(sum(each) / len(each), 3) for name, each in shares.items() if each},
        }


@lru_cache(maxsize=64)
def _shaped(wanted: str, notation: Notation, many: bool) -> RecordSchema:
    schema = schema_of(wanted, notation)
    if schema is None:
        raise InvalidRequest("wanted is a sentence, of which a model has yet to make a schema", param="wanted")
    return RecordSchema.of(schema, many)


def _shape(given: Input) -> RecordSchema:
    return _shaped(given.wanted, given.notation, given.many)


def _check_key(given: Input, shape: RecordSchema) -> None:
    for place, name in enumerate(given.key):
        if name not in shape.names:
            hint = did_you_mean(name, shape.names, f"there are {', '.join(shape.names)[:300]}")
            raise InvalidRequest(f"key names {name!r:.80}, no field of a record; {hint}", param=f"key[{place}]")


def _asked(calls: Calls, text: str, shape: RecordSchema, longest: int) -> ConstrainedAnswer:
    """The whole answer about a section."""
    answer = ConstrainedAnswer()
    for chunk in constrained(calls, request(text, shape), longest, shape.answer):
        answer.take(chunk)
    return answer


def _read(answer: ConstrainedAnswer, shape: RecordSchema, text: str, start: int) -> list[Found]:
    required_text(answer.text, "data")
    return found_in(answer.text, answer.tokens, shape, text, start)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list):
        for part, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(each, (*path, part))
    else:
        yield path, value


def _output(found: Sequence[Found], shape: RecordSchema, given: Input, model: str) -> Output:
    records = [each.record for each in found]
    values = [
        _value((number, *path), value, each.evidence.get(path) or Evidence(), model)
        for number, each in enumerate(found)
        for path, value in _leaves(each.record)
    ]
    data = as_text(records, shape.names, given.format, many=shape.many)
    return Output(data=data, records=records, values=values, json_schema=shape.schema)


def _value(path: Path, value: Any, evidence: Evidence, model: str) -> Value:
    start, end = evidence.span or (None, None)
    return Value(
        path=field_path(path),
        value=value,
        quoted=evidence.span is not None,
        start=start,
        end=end,
        probability=None if evidence.probability is None else float(f"{evidence.probability:.3g}"),
        confidence=confidence(model, evidence.probability, evidence.span is not None),
    )


def _is_quotable(value: Any) -> bool:
    """Whether the text should have it: a text or number, where true, false and null are conclusions."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _notes(output: Output, answers: Mapping[int, ConstrainedAnswer], twice: int, model: str) -> Iterator[str]:
    if len(answers) > 1:
        yield f"read in {len(answers)} sections"
    if twice:
        yield f"{twice} records that were there already were joined with those"
    cut = [path for answer in answers.values() for path in answer.incomplete]
    if cut:
        yield f"cut off before these were complete: {', '.join(cut)[:300]}"
    missing = [each.path for each in output.values if not each.quoted and _is_quotable(each.value)]
    if missing:
        yield f"not in the text as words of their own: {', '.join(missing)[:300]}"
    if any(each.probability is not None for each in output.values) and not is_calibrated(model):
        yield f"how often values of such probabilities are right was not measured with {model}: none has a confidence"


def _difficulty(paper: Paper) -> base.Difficulty:
    if paper.language in ("hi", "th") or len(paper.records) > 3:
        return "hard"
    return "medium" if paper.aside or len(paper.records) > 1 else "easy"
