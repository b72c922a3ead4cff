"""Runs: neighbouring elements that came in the same bytes before, recognised by one comparison.

Between the few elements that vary in a series (instance UID, position, times) lie runs of elements that do not. A run is
learned when its elements were all found in the memo one after the other; the next file is compared with it as a whole. Where
it differs, it is split around the element that differs, and that element begins no run again. When many elements vary,
another kind of series has begun and everything is learned anew.
"""

from dicomweb.headers.memo import SWITCHES, VARYING, Context, Entry, Memo, Run, creators_in

RUN_BYTES = 64 << 10
MOST_VARYING = 64


def learn(
    memo: Memo, context: Context, raw: bytes, entries: list[Entry], sizes: list[int], creators: dict[int, str]
) -> None:
    """Remember a run of at least two elements, met where ``creators`` were known."""
    if len(entries) < 2 or len(raw) > RUN_BYTES or len({entry.key for entry in entries}) < len(entries):
        return
    memo.make_room(len(raw) + 600 + 200 * len(entries))
    context.runs[int(entries[0].key, 16)] = Run(raw, entries, sizes, creators)


def split(memo: Memo, context: Context, run: Run, data: bytes, at: int, creators: dict[int, str]) -> None:
    """Divide a run that ``data`` does not go on as at ``at``, around the first element that differs."""
    if run is VARYING or creators != run.creators:
        return
    start = 0
    for index, size in enumerate(run.sizes):
        if data.startswith(run.raw[start : start + size], at + start):
            start += size
            continue
        before, after = run.entries[:index], run.entries[index + 1 :]
        del context.runs[int(run.entries[0].key, 16)]
        learn(memo, context, run.raw[:start], before, run.sizes[:index], creators)
        creators = creators | creators_in(run.entries[: index + 1])
        learn(memo, context, run.raw[start + size :], after, run.sizes[index + 1 :], creators)
        context.runs[int(run.entries[index].key, 16)] = VARYING
        context.varying += 1
        break
    if context.varying > MOST_VARYING:
        context.runs.clear()
        context.runs.update(SWITCHES)
        context.varying = 0
