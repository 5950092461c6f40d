"""Constraints compiled beside everything else: in threads of their own, within budgets; and kept.

llguidance lets go of the interpreter lock while it compiles and cannot be interrupted. What may take any time is
therefore tried in a process first (``grammar_trial.py``), one or two at once, and waits in a line of its own: a bomb
keeps nobody waiting but other suspects. The process has a low priority (the lowest would never end on a busy
machine), and so has the thread in which llguidance then compiles them, without the interpreter lock. The others have
not: a thread that holds that lock and is not given a processor holds up everyone.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from llguidance import LLMatcher

from quipu.engine.closing import LONGEST, Closing
from quipu.engine.grammar import Grammar, Vocabulary
from quipu.engine.grammar_text import grammar_source, limits
from quipu.engine.grammar_tokens import grammar_tokens
from quipu.engine.grammar_trial import complaint, try_grammar
from quipu.engine.json_fields import incomplete_fields
from quipu.engine.json_schema import check_schema, complaint_of, patterns_in, validator
from quipu.engine.lexer_fuel import LexerFuel
from quipu.engine.pattern_example import pattern_example
from quipu.engine.text_check import Check, choice_check, pattern_check
from quipu.engine.token_mask import Masking
from quipu.errors import EngineStopped, InvalidRequest, Overloaded
from quipu.model.tokenizer import Tokenizer
from quipu.types import Constraint

KEPT = 32
"""Compiled grammars (each of some kilobytes to some tens of megabytes), and refusals."""
SEARCHING = 3
"""Seconds of computing for an answer of few tokens."""
SUSPECTS = 2
"""Tried at once."""
MOST_WAITING = 32
"""Suspects that wait to be tried."""
Checks = tuple[Check, Callable[[str, int], tuple[str, ...]]]
MAX_TEXT = 512 << 10
"""Characters of a pattern, a grammar, or all choices. A grammar of 128 tools of common size has half of them."""


class GrammarCompiler:
    """Compiles constraints for answers in tokens of ``tokenizer``. Safe from several threads.

    ``end_ids`` end an answer, ``width`` is the number of logits.
    """

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int], width: int) -> None:
        self._tokenizer, self._end_ids, self._width = tokenizer, frozenset(end_ids), width
        self._kept: OrderedDict[bytes, Future[Grammar]] = OrderedDict()
        self._lock = threading.Lock()
        self._plain = ThreadPoolExecutor(1, "quipu-grammar")
        self._suspects = ThreadPoolExecutor(SUSPECTS, "quipu-suspect")
        self._building = ThreadPoolExecutor(1, "quipu-build", _give_way)
        self._checking = ThreadPoolExecutor(1, "quipu-check")
        self._waiting = 0
        self._making = threading.Lock()
        self._vocabulary: Vocabulary | None = None

    def compile(self, constraint: Constraint, name: str = "constraint") -> Future[Grammar]:
        """The grammar of ``constraint``, which the request has as ``name``; compiled once for those that are alike.

        The future raises InvalidRequest by field name for what cannot be kept or exceeds a budget, and Overloaded when
        too many wait to be tried.
        """
        key = _key(constraint, name)
        with self._lock:
            known = self._kept.get(key)
            if known is not None and not _void(known):
                self._kept.move_to_end(key)
                return _own(known)
            future: Future[Grammar] = Future()
            future.set_running_or_notify_cancel()  # one who stops waiting must not cancel it for the others
            self._kept[key] = future
            done = [each for each, kept in self._kept.items() if kept.done()]
            for each in done[: max(0, len(self._kept) - KEPT)]:
                del self._kept[each]
        self._start(self._plain, self._checked, constraint, name, future)
        return future

    def check(self, work: Callable[[], None]) -> None:
        """Do ``work``, which validates an answer, in a thread for it, in the order in which it comes."""
        try:
            self._checking.submit(work)
        except RuntimeError:  # closed meanwhile
            work()

    def close(self) -> None:
        """Compile nothing more. Idempotent."""
        for pool in (self._plain, self._suspects, self._building, self._checking):
            pool.shutdown(wait=False, cancel_futures=pool is not self._checking)

    def _start(self, pool: ThreadPoolExecutor, work: Callable[..., None], *args: Any) -> None:
        future: Future[Grammar] = args[-1]
        try:
            pool.submit(_settling, future, work, *args).add_done_callback(partial(_settle_cancelled, future))
        except RuntimeError:
            future.set_exception(_closed())

    def _checked(self, constraint: Constraint, name: str, future: Future[Grammar]) -> None:
        """Refuse what can be refused at a look; go on here with what is cheap for sure, elsewhere with suspects."""
        value: Any = constraint.value
        if constraint.kind == "json_schema":
            plain = check_schema(value, name)
        else:
            plain = constraint.kind in ("json_object", "choice")
            size = sum(map(len, value)) if isinstance(value, tuple) else len(value or "")
            if size > MAX_TEXT:
                raise InvalidRequest(
                    f"{name} has {size} characters, which is beyond the limit of {MAX_TEXT}; make it shorter",
                    param=name,
                )
        checks = _checks(constraint, name)
        if plain:
            self._compiled(constraint, name, checks, _built(self._known(), constraint), future)
        elif self._waiting >= MOST_WAITING:
            raise Overloaded(
                f"{MOST_WAITING} constraints whose cost is not known wait to be tried; try again shortly", retry_after=5
            )
        else:
            with self._lock:
                self._waiting += 1
            self._start(self._suspects, self._tried, constraint, name, checks, future)

    def _tried(self, constraint: Constraint, name: str, checks: Checks, future: Future[Grammar]) -> None:
        with self._lock:
            self._waiting -= 1
        try_grammar(grammar_source(constraint), name)
        try:
            matcher = self._building.submit(_built, self._known(), constraint).result()
        except (RuntimeError, CancelledError):
            raise _closed() from None
        self._compiled(constraint, name, checks, matcher, future)

    def _compiled(
        self, constraint: Constraint, name: str, checks: Checks, matcher: LLMatcher, future: Future[Grammar]
    ) -> None:
        check, fields = checks
        vocabulary = self._known()
        if matcher.is_error():
            raise complaint(matcher.get_error(), name)
        examples = filter(None, map(pattern_example, _patterns(constraint)))
        hints = tuple(tuple(vocabulary.tokens.tokenize_str(each)) for each in dict.fromkeys(examples))
        shortest = vocabulary.closing.shortest(matcher, hints, SEARCHING)
        if shortest is None:
            raise InvalidRequest(
                f"{name} allows no answer that ends, as far as a search of {LONGEST} tokens or {SEARCHING} seconds "
                "found; does it need something that contains itself?",
                param=name,
            )
        check = partial(_complaint, check, partial(_matches, matcher, vocabulary))
        fuel = LexerFuel(matcher)
        future.set_result(Grammar(vocabulary, matcher, fuel, tuple(shortest), hints, check, fields))

    def _known(self) -> Vocabulary:
        """The tokenizer as llguidance has it; made when first needed."""
        with self._making:
            if self._vocabulary is None:
                tokenizer = self._tokenizer
                tokens = grammar_tokens(tokenizer, self._end_ids)
                pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.vocabulary)]
                self._vocabulary = Vocabulary(
                    tokens,
                    pieces,
                    frozenset(tokenizer.specials.values()) | self._end_ids,
                    self._end_ids,
                    Closing(tokens, pieces),
                    Masking(self._width),
                )
            return self._vocabulary


def _built(vocabulary: Vocabulary, constraint: Constraint) -> LLMatcher:
    """Compiled, and if its first mask, which shows what was put off until then, fails: that failure."""
    matcher = LLMatcher(vocabulary.tokens, grammar_source(constraint), log_level=0, limits=limits())
    first = matcher.deep_copy()
    if not first.is_error():
        first.compute_bitmask()
    return first if first.is_error() else matcher


def _give_way() -> None:
    """Whoever generates goes first: on Linux a thread has a priority of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _closed() -> EngineStopped:
    return EngineStopped("the model was closed while a constraint was being compiled")


def _settle_cancelled(future: Future[Grammar], work: Future[None]) -> None:
    """Closing takes back what waits; who waits for it must hear of that."""
    if work.cancelled():
        future.set_exception(_closed())


def _own(known: Future[Grammar]) -> Future[Grammar]:
    """A refusal of one's own: each raising of an error adds its frames, with all they hold, to that error."""
    error = known.exception() if known.done() else None
    if error is None:
        return known
    mine: Future[Grammar] = Future()
    mine.set_exception(copy.copy(error).with_traceback(None))
    return mine


def _settling(future: Future[Grammar], work: Callable[..., None], *args: Any) -> None:
    try:
        work(*args)
    except BaseException as error:
        future.set_exception(error)


def _key(constraint: Constraint, name: str) -> bytes:
    try:
        told = json.dumps([constraint.kind, constraint.value, name])
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is not JSON, or nested too deep: {error}", param=name) from None
    return hashlib.sha256(told.encode()).digest()


def _void(known: Future[Grammar]) -> bool:
    """It failed, and may not the next time; or an answer has used up what all of them share."""
    if not known.done():
        return False
    error = known.exception()
    return known.result().fuel.empty if error is None else not isinstance(error, InvalidRequest)


def _checks(constraint: Constraint, name: str) -> Checks:
    """How a text is checked, and how its incomplete fields are found. A grammar has no reader but llguidance."""
    value: Any = constraint.value
    match constraint.kind:
        case "json_schema" | "json_object":
            schema = {"type": "object"} if constraint.kind == "json_object" else value
            return partial(complaint_of, validator(schema, name)), partial(_incomplete, schema)
        case "choice":
            return choice_check(value), lambda text, written: ()
        case "regex":
            return pattern_check(value), lambda text, written: ()
    return lambda text: None, lambda text, written: ()


def _incomplete(schema: Any, text: str, written: int) -> tuple[str, ...]:
    return incomplete_fields(text, written, schema)


def _patterns(constraint: Constraint) -> list[str]:
    value: Any = constraint.value
    match constraint.kind:
        case "json_schema":
            return patterns_in(value)
        case "regex":
            return [value]
    return []


def _complaint(check: Check, otherwise: Callable[[str], str], text: str) -> str:
    """What ``check`` says, if it can tell."""
    said = check(text)
    return otherwise(text) if said is None else said


def _matches(matcher: LLMatcher, vocabulary: Vocabulary, text: str) -> str:
    fork = matcher.deep_copy()
    tokens = vocabulary.tokens.tokenize_str(text)
    if fork.try_consume_tokens(tokens) == len(tokens) and fork.is_accepting():
        return ""
    return "it does not match the pattern or grammar"
