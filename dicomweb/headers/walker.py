"""The walk over the elements of a dataset: one pass, every length accounted for, everything bounded.

Positions are bytes of the file; inside the loop ``at``, ``end`` and ``edge`` count from the start of the window instead.
"""

import struct
from typing import NamedTuple

from dicomweb.headers import charset, values
from dicomweb.headers.dictionary import PIXEL_DATA, name_of, path_of, vr_of
from dicomweb.headers.errors import HeaderError, TooDeep, TooLarge, TooManyElements, Truncated, Unreadable
from dicomweb.headers.memo import (
    ELEMENT_BYTES,
    SEQUENCE_BYTES,
    SPECIFIC_CHARACTER_SET,
    SWITCHES,
    VARYING,
    Context,
    Entry,
    Key,
    Memo,
    Piece,
    creator_of,
    creators_in,
    entries_of,
)
from dicomweb.headers.model import Element, Limits, PixelData
from dicomweb.headers.runs import learn, split
from dicomweb.headers.source import Window
from dicomweb.languages import N_, gettext

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
EXTENDED_OFFSET_TABLE = 0x7FE00001
PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, PIXEL_DATA))
# What may begin after pixel data: (FFFA,FFFA) digital signatures, (FFFC,FFFC) padding, in both byte orders.
AFTER_PIXELS = (b"\xfa\xff\xfa\xff", b"\xfc\xff\xfc\xff", b"\xff\xfa\xff\xfa", b"\xff\xfc\xff\xfc")
PATH_CHARACTERS = 1000
# What remembering one large value costs, as an estimate.
BULK_ENTRY_BYTES = 1000

LONG_VRS = "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
SHORT_VRS = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
# The size of an element's header by its VR, PS3.5 7.1.2.
HEADS = {vr.encode(): 8 for vr in SHORT_VRS} | {vr.encode(): 12 for vr in LONG_VRS}
NAMES = {vr: vr.decode() for vr in HEADS}

EXPLICIT = {True: struct.Struct("<HH2sH").unpack_from, False: struct.Struct(">HH2sH").unpack_from}
IMPLICIT = {True: struct.Struct("<HHI").unpack_from, False: struct.Struct(">HHI").unpack_from}
LENGTH = {True: struct.Struct("<I").unpack_from, False: struct.Struct(">I").unpack_from}


class Found(NamedTuple):
    """The header of an element as it was met."""

    tag: int
    vr: bytes  # b'' in implicit VR
    head: int  # the size of the header
    length: int
    creator: str
    position: int


class Walker:
    """One reading of one file."""

    def __init__(self, window: Window, limits: Limits, memo: Memo) -> None:
        self.window = window
        self.limits = limits
        self.memo = memo
        self.pixel_data: PixelData | None = None
        self.extended_offsets: tuple[int, int] | None = None
        self.warnings: list[str] = []
        self.oddities = 0
        self.remembered = False
        self.text_bytes = 0

    def warn(self, code: str) -> None:
        """Note an oddity; what shows one is not remembered, so that the next file shows it too."""
        self.oddities += 1
        if code not in self.warnings:
            self.warnings.append(code)

    def dataset(
        self, start: int, stop: int, context: Context, bulk: str, depth: int, allowed: int, closed: bool = False
    ) -> tuple[list[Piece], int]:
        """Return the elements of the dataset from ``start`` to ``stop`` and where it ended.

        ``closed`` is an item of undefined length, which ends with its delimiter. ``allowed`` is what the elements may cost,
        ``bulk`` the path of the dataset with item numbers, '' at the top, for the names of bulk data.

        Raises HeaderError.
        """
        window = self.window
        data, base = window.data, window.base
        at, end = start - base, stop - base
        edge = min(end, len(data))
        explicit, little, find = context.explicit, context.little, context.known.get
        unpack = EXPLICIT[little] if explicit else IMPLICIT[little]
        long_length, heads = LENGTH[little], HEADS.get
        find_run = (SWITCHES if bulk else context.runs).get
        creators: dict[int, str] = {}
        pieces: list[Piece] = []
        append = pieces.append
        streak: list[int] = []  # the sizes of the last elements, as long as all came from the memo
        while True:
            if at + 12 > edge:
                if at + 8 > end:
                    break
                if end > len(data):
                    window.load(at + base, 12)
                    data, base = window.data, window.base
                    at, end = 0, stop - base
                    edge = min(end, len(data))
                    streak = []
            if explicit:
                group, number, vr, length = unpack(data, at)
                head = heads(vr)
                if head == 12:
                    if at + 12 > edge:
                        raise self._overrun(at + base, group << 16 | number, at + base + 12, stop)
                    length = long_length(data, at + 8)[0]
            else:
                group, number, length = unpack(data, at)
                vr, head = b"", 8
            tag = group << 16 | number
            run = find_run(tag)
            if run is not None:
                streak = self._learn(context, data, at, pieces, streak, creators)
                after = at + len(run.raw)
                if run is not VARYING and data.startswith(run.raw, at) and after <= end and run.creators == creators:
                    allowed -= run.cost
                    if allowed < 0:
                        raise self._too_many()
                    creators.update(run.gives)
                    append(run)
                    at = after
                    continue
                split(self.memo, context, run, data, at, creators)
            plain = run is None and not bulk
            if group == 0xFFFE or head is None:
                if group == 0xFFFE:
                    if number == 0xE00D and closed:
                        return pieces, at + base + 8
                    self._stray(at + base, tag, stop, bulk)
                    streak = []
                    at += 8
                    continue
                if self._is_padding(at + base, data[at : at + 8], bulk):
                    at = end
                    break
                vr, head, length = self._odd_header(vr, length, data, at, little)
                plain = False

            after = at + head + length
            private = group & 1
            creator = creators.get(group << 16 | number >> 8, "") if private else ""
            entry = None
            if length <= ELEMENT_BYTES:
                if after > edge:
                    if after > end:
                        raise self._overrun(at + base, tag, after + base, stop)
                    window.load(at + base, head + length)
                    data, base = window.data, window.base
                    at, end = 0, stop - base
                    edge = min(end, len(data))
                    streak = []
                    continue
                raw = data[at:after]
                key: Key = (creator, raw) if private else raw
                entry = find(key)
                if entry is None and group != 0x7FE0:
                    if not tag and self._is_padding(at + base, raw[:8], bulk):
                        at = end
                        break
                    plain = False
                    streak = self._learn(context, data, at, pieces, streak, creators)
                    oddities = self.oddities
                    found = Found(tag, vr, head, length, creator, at + base)
                    entry = self._small(found, raw, context, bulk, depth, allowed)
                    if tag and self.oddities == oddities:
                        self.memo.keep(context, key, entry, len(raw))
                if run is VARYING and tag in SWITCHES:
                    context = self._switch(context, tag, raw, head)
                    find = context.known.get
                    find_run = (SWITCHES if bulk else context.runs).get
            if entry is None:
                found = Found(tag, vr, head, length, creator, at + base)
                self.remembered = False
                entry, position = self._large(found, stop, context, bulk, depth, allowed)
                plain = plain and self.remembered
                if not plain:
                    streak = self._learn(context, data, at, pieces, streak, creators)
                if data is not window.data:
                    at += base - window.base
                    data, base = window.data, window.base
                    end = stop - base
                    edge = min(end, len(data))
                after = position - base
            if plain:
                streak.append(after - at)
            elif streak:
                streak = self._learn(context, data, at, pieces, streak, creators)
            at = after
            if private and 0x10 <= number <= 0xFF:
                creators[tag] = creator_of(entry)
            allowed -= entry.cost
            if allowed < 0:
                raise self._too_many()
            append(entry)
        self._learn(context, data, at, pieces, streak, creators)
        if at < end:
            self._leftover(at + base, stop, bulk)
        if closed:
            raise self._overrun(at + base, ITEM_END, stop + 1, stop)
        return pieces, stop

    def _learn(
        self, context: Context, data: bytes, at: int, pieces: list[Piece], streak: list[int], creators: dict[int, str]
    ) -> list[int]:
        """Remember the elements of a streak that ends before ``at`` as a run; return an empty streak."""
        if len(streak) > 1:
            entries = entries_of(pieces[-len(streak) :])
            given = creators_in(entries)
            before = {tag: creator for tag, creator in creators.items() if tag not in given}
            learn(self.memo, context, data[at - sum(streak) : at], entries, streak, before)
        return []

    def _too_many(self) -> HeaderError:
        return TooManyElements(gettext("The header has more than %(most)s elements and items.", most=self.limits.elements))

    # --- one element ---

    def _small(self, found: Found, raw: bytes, context: Context, bulk: str, depth: int, allowed: int) -> Entry:
        """Return the result of an element that the window holds whole."""
        vr = self._vr(found, context)
        if vr == "SQ":
            return self._sequence(found, found.position + len(raw), True, context, bulk, depth, allowed)[0]
        return self._valued(found, vr, raw[found.head :], context)

    def _large(
        self, found: Found, stop: int, context: Context, bulk: str, depth: int, allowed: int
    ) -> tuple[Entry, int]:
        """Return the result of an element that is large, of undefined length or of the pixel group, and where it ends."""
        tag, length = found.tag, found.length
        start = found.position + found.head
        is_pixels = tag in PIXEL_TAGS and not bulk
        if length == UNDEFINED:
            vr = self._vr_undefined(found, start, stop, context) if not is_pixels else NAMES.get(found.vr, "OB")
            if vr == "SQ":
                return self._remembered_sequence(found, stop, False, context, bulk, depth, allowed)
            pixel_data, after = self.fragments(tag, start, stop, context.little)
            if is_pixels:
                self._found_pixels(pixel_data)
                after = self._after_pixels(after, stop, context)
            # Its name as bulk data holds the number of the item it is in, which a sequence in the memo must not.
            self.oddities += 1
            return self._bulk(found, vr, pixel_data.length, context, bulk), after
        after = start + length
        if after > stop:
            raise self._overrun(start, tag, after, stop)
        vr = self._vr(found, context)
        if is_pixels:
            self._found_pixels(PixelData(start, length, False))
            return self._bulk(found, vr, length, context, bulk), self._after_pixels(after, stop, context)
        if tag == EXTENDED_OFFSET_TABLE and not bulk:
            self.extended_offsets = (start, length)
        if vr == "SQ":
            return self._remembered_sequence(found, after, True, context, bulk, depth, allowed)
        if length <= ELEMENT_BYTES:
            return self._valued(found, vr, self.window.read(start, length), context), after
        if vr in values.BINARY:
            return self._bulk(found, vr, length, context, bulk), after
        return self._long_value(found, vr, start, context, bulk), after

    def _valued(self, found: Found, vr: str, value: bytes, context: Context) -> Entry:
        """Return the result of a whole value."""
        if value:
            try:
                texts, json = values.convert(vr, value, context.little, context.encodings)
            except values.WrongLength:
                self.warn("wrong-value-length")
                vr = "UN"
                texts, json = values.convert(vr, value, context.little, context.encodings)
        else:
            texts, json = ("",), values.element_json(vr)
        # Group lengths are no part of the JSON model, PS3.18 F.2.2.
        return self._entry(found, vr, texts, json if found.tag & 0xFFFF else b"", context)

    def _long_value(self, found: Found, vr: str, start: int, context: Context, bulk: str) -> Entry:
        """Return the result of a text or of numbers above ELEMENT_BYTES: what is searchable, and JSON or its bulk data."""
        kept = found.length
        is_text = vr in values.TEXT or vr in values.PLAIN
        if not is_text:
            kept = min(kept, values.VECTOR_VALUES * 8) // 8 * 8
        elif kept > self.limits.value_bytes:
            self.warn("value-cut")
            kept = self.limits.value_bytes
        # A sequence that holds it is not remembered: every file pays for its own texts.
        self.oddities += 1
        self.text_bytes += kept
        if self.text_bytes > self.limits.text_bytes:
            raise TooLarge(gettext("The texts of the header are larger than %(most)s bytes.", most=self.limits.text_bytes))
        value = self.window.read(start, kept)
        if is_text and kept == found.length:
            return self._valued(found, vr, value, context)
        texts = values.convert(vr, value, context.little, context.encodings)[0]
        if is_text and len(texts) > 1:
            texts = texts[:-1]  # The last one may be cut.
        json = values.bulk_json(vr, f"{bulk}{found.tag:08X}")
        return self._entry(found, vr, texts[: None if is_text else values.VECTOR_VALUES], json, context)

    def _bulk(self, found: Found, vr: str, length: int, context: Context, bulk: str) -> Entry:
        """Return the result of binary data that is not looked at: its header tells all, but the item it is in."""
        key = (found.tag, vr, length, found.creator)
        entry = None if bulk else context.bulk.get(key)
        if entry is None:
            entry = self._bulk_entry(found, vr, length, context, bulk)
            if not bulk:
                self.memo.make_room(BULK_ENTRY_BYTES)
                context.bulk[key] = entry
        return entry

    def _bulk_entry(self, found: Found, vr: str, length: int, context: Context, bulk: str) -> Entry:
        return self._entry(found, vr, (f"<{length} bytes>",), values.bulk_json(vr, f"{bulk}{found.tag:08X}"), context)

    def _entry(self, found: Found, vr: str, texts: tuple[str, ...], json: bytes, context: Context) -> Entry:
        element = Element(self._path(found, context), vr, texts)
        return Entry((element,), f"{found.tag:08X}", json, 1 + len(texts) // 32)

    def _path(self, found: Found, context: Context) -> str:
        path = context.prefix + path_of(found.tag, found.creator)
        if len(path) > PATH_CHARACTERS:
            longer = N_("The names of the sequences around %(element)s are longer than %(most)s characters.")
            raise TooDeep(gettext(longer, element=name_of(found.tag), most=PATH_CHARACTERS))
        return path

    def _vr(self, found: Found, context: Context) -> str:
        """Return the VR of an element: its own, or the dictionary's where it has none or UN."""
        if found.vr and found.vr != b"UN":
            return NAMES[found.vr]
        # As pydicom does: a UN this long is one because 16 bits would not have held its length, PS3.5 6.2.2.
        if found.vr and not found.tag >> 16 & 1 and 0xFFFF <= found.length < UNDEFINED:
            return "UN"
        return vr_of(found.tag, found.creator, context.signed, found.length)

    def _vr_undefined(self, found: Found, start: int, stop: int, context: Context) -> str:
        """Return the VR of an element of undefined length: UN is a sequence, PS3.5 6.2.2; so is what holds items."""
        vr = "SQ" if found.vr == b"UN" else self._vr(found, context)
        if vr == "UN" and stop - start >= 8:
            group, number, _ = self.window.tag_and_length(start, context.little)
            vr = "SQ" if group << 16 | number in (ITEM, SEQUENCE_END) else vr
        if vr != "SQ" and vr not in values.BINARY:
            undefined = N_("%(element)s at byte %(start)s has VR %(vr)s and undefined length, which only sequences may have.")
            raise Unreadable(gettext(undefined, element=name_of(found.tag), start=start, vr=vr))
        return vr

    # --- sequences ---

    def _remembered_sequence(
        self, found: Found, stop: int, defined: bool, context: Context, bulk: str, depth: int, allowed: int
    ) -> tuple[Entry, int]:
        """Return a sequence from the memo when its bytes are those of an earlier one, else walk it."""
        window, position = self.window, found.position
        total = stop - position if defined else context.lengths.get(found.tag, 0)
        # Below the top a sequence may refer to bulk data, whose names hold item numbers that are no part of its bytes.
        limit = ELEMENT_BYTES if bulk else SEQUENCE_BYTES
        if 0 < total <= limit and position + total <= stop and window.holds(position, total):
            entry = context.known.get(self._sequence_key(found, total))
            if entry is not None:
                self.remembered = True
                return entry, position + total
        oddities = self.oddities
        entry, after = self._sequence(found, stop, defined, context, bulk, depth, allowed)
        total = after - position
        if total <= limit and self.oddities == oddities and window.holds(position, total):
            context.lengths[found.tag] = total
            self.memo.keep(context, self._sequence_key(found, total), entry, total)
        return entry, after

    def _sequence_key(self, found: Found, total: int) -> Key:
        raw = self.window.read(found.position, total)
        return (found.creator, raw) if found.tag >> 16 & 1 else raw

    def _sequence(
        self, found: Found, stop: int, defined: bool, context: Context, bulk: str, depth: int, allowed: int
    ) -> tuple[Entry, int]:
        """Return a sequence with everything in it, and where it ends."""
        tag = found.tag
        position = found.position + found.head
        if depth >= self.limits.depth:
            deeper = N_("%(element)s at byte %(start)s is nested deeper than %(most)s sequences.")
            raise TooDeep(gettext(deeper, element=name_of(tag), start=position, most=self.limits.depth))
        path = self._path(found, context)
        elements = [Element(path, "SQ", ())]
        items: list[bytes] = []
        cost = 1
        while position < stop or not defined:
            if stop - position < 8:
                raise self._overrun(position, tag, position + 8, stop)
            group, number, length = self.window.tag_and_length(position, context.little)
            marker = group << 16 | number
            position += 8
            if marker == SEQUENCE_END:
                if defined and position < stop:
                    self.warn("stray-delimiter")
                    position = stop
                break
            if marker != ITEM:
                stray = N_("%(found)s at byte %(start)s stands where %(element)s should have an item.")
                raise Unreadable(gettext(stray, found=name_of(marker), start=position - 8, element=name_of(tag)))
            item_stop = stop if length == UNDEFINED else position + length
            if item_stop > stop:
                raise self._overrun(position, tag, item_stop, stop)
            inner = self.memo.context(
                context.explicit and self._is_explicit(position, item_stop),
                context.little,
                context.encodings,
                context.signed,
                path + "/",
            )
            inner_bulk = f"{bulk}{tag:08X}/{len(items)}/"
            pieces, position = self.dataset(
                position, item_stop, inner, inner_bulk, depth + 1, allowed - cost - 1, length == UNDEFINED
            )
            contents = self.settled(entries_of(pieces))
            cost += 1 + sum(entry.cost for entry in contents)
            for entry in contents:
                elements.extend(entry.elements)
            items.append(
                b"{"
                + b",".join(b'"%b":%b' % (e.key.encode(), e.json) for e in sorted(contents, key=_key) if e.json)
                + b"}"
            )
        json = b'{"vr":"SQ","Value":[' + b",".join(items) + b"]}" if items else b'{"vr":"SQ"}'
        return Entry(tuple(elements), f"{tag:08X}", json, cost), position

    def _is_explicit(self, position: int, stop: int) -> bool:
        """Say whether an item of an explicit dataset is explicit too; some writers, and UN by rule (PS3.5 6.2.2), are not."""
        if stop - position < 8:
            return True
        vr = self.window.read(position + 4, 2)
        return (vr.isalpha() and vr.isupper()) or self.window.read(position, 4) in (
            b"\xfe\xff\x0d\xe0",
            b"\xff\xfe\xe0\x0d",
        )

    def settled(self, entries: list[Entry]) -> list[Entry]:
        """Return the elements without those that a later one of the same tag replaces, as in pydicom."""
        last = {entry.key: entry for entry in entries}
        if len(last) == len(entries):
            return entries
        self.warn("duplicate-tag")
        return [entry for entry in entries if last[entry.key] is entry]

    # --- encapsulated data ---

    def fragments(self, tag: int, start: int, stop: int, little: bool) -> tuple[PixelData, int]:
        """Return the positions of encapsulated data, PS3.5 A.4, and where it ends."""
        fragments: list[tuple[int, int]] = []
        table: tuple[int, int] | None = None
        position = start
        while True:
            if stop - position < 8:
                raise self._overrun(position, tag, position + 8, stop)
            group, number, length = self.window.tag_and_length(position, little)
            marker = group << 16 | number
            position += 8
            if marker == SEQUENCE_END:
                break
            if marker != ITEM or length == UNDEFINED:
                stray = N_("%(found)s at byte %(start)s stands where %(element)s should have a fragment.")
                raise Unreadable(gettext(stray, found=name_of(marker), start=position - 8, element=name_of(tag)))
            if position + length > stop:
                raise self._overrun(position, tag, position + length, stop)
            if table is None:
                table = (position, length)
            else:
                fragments.append((position, length))
                if len(fragments) > self.limits.fragments:
                    raise TooManyElements(gettext("The pixel data has more than %(most)s fragments.", most=self.limits.fragments))
            position += length
        offsets: tuple[int, ...] = ()
        if table and 0 < table[1] <= 4 * self.limits.fragments:
            count = table[1] // 4
            offsets = struct.unpack(f"{'<' if little else '>'}{count}I", self.window.read(table[0], count * 4))
        return PixelData(start, position - 8 - start, True, tuple(fragments), offsets), position

    def _found_pixels(self, pixel_data: PixelData) -> None:
        if self.extended_offsets and pixel_data.encapsulated and not pixel_data.frame_offsets:
            start, length = self.extended_offsets
            count = min(length // 8, self.limits.fragments)
            offsets = struct.unpack(f"<{count}Q", self.window.read(start, count * 8))
            pixel_data = pixel_data._replace(frame_offsets=offsets)
        self.pixel_data = pixel_data

    def _after_pixels(self, position: int, stop: int, context: Context) -> int:
        """Return where the walk goes on after pixel data: at the end when what follows is no element."""
        if position >= stop:
            return position
        head = self.window.read(position, min(8, stop - position))
        if any(head.startswith(tag) or tag.startswith(head) for tag in AFTER_PIXELS):
            return position
        if len(head) == 8:
            group = int.from_bytes(head[:2], "little" if context.little else "big")
            if group == 0xFFFE or (head[4:6] in HEADS if context.explicit else 0x7FE0 <= group < 0x8000):
                return position
        self.warn("trailing-bytes")
        return stop

    # --- oddities ---

    def _switch(self, context: Context, tag: int, raw: bytes, head: int) -> Context:
        """Return the context after an element that changes the meaning of those that follow."""
        after = context.switches.get(raw)
        if after is not None:
            return after
        encodings, signed, value = context.encodings, context.signed, raw[head:]
        is_clear = True
        if tag == SPECIFIC_CHARACTER_SET:
            encodings = charset.encodings_of(value)
            is_clear = charset.is_known(value)
        else:
            signed = value.strip(b"\0") == b"\1"
        after = self.memo.context(context.explicit, context.little, encodings, signed, context.prefix)
        if is_clear:
            context.switches[raw] = after
        else:
            self.warn("unknown-charset")
        return after

    def _odd_header(self, vr: bytes, length: int, data: bytes, at: int, little: bool) -> tuple[bytes, int, int]:
        """Return VR, size and length of an element header that has no VR known to PS3.5 6.2."""
        if vr.isalpha() and vr.isupper():
            self.warn("unknown-vr")
            return b"UN", 8, length
        self.warn("implicit-in-explicit")
        return b"", 8, LENGTH[little](data, at + 4)[0]

    def _stray(self, position: int, marker: int, stop: int, bulk: str) -> None:
        """Pass over a delimiter at the top or at the end of an item; elsewhere in an item it means that a length is wrong."""
        if bulk and (marker != ITEM_END or position + 8 != stop):
            raise Unreadable(gettext("%(found)s at byte %(start)s stands where an item should have an element.", found=name_of(marker), start=position))
        self.warn("stray-delimiter")

    def _is_padding(self, position: int, head: bytes, bulk: str) -> bool:
        """Say whether only zero bytes follow up to the end of the file."""
        if bulk or head.count(0) < len(head) or not self.window.only_zeros(position):
            return False
        self.warn("trailing-bytes")
        return True

    def _leftover(self, position: int, stop: int, bulk: str) -> None:
        """Judge less than the eight bytes that an element needs, at the end of a dataset."""
        if bulk:
            raise self._overrun(position, ITEM, position + 8, stop)
        raise Truncated(gettext("The file ends at byte %(size)s, %(into)s bytes into the header of an element.", size=stop, into=stop - position))

    def _overrun(self, start: int, tag: int, need: int, stop: int) -> HeaderError:
        """Return the error for a value that begins at ``start`` and would have to go on to ``need``, beyond ``stop``."""
        size = self.window.size
        if need > size or stop >= size:
            ends = N_("The file ends at byte %(size)s inside %(element)s at byte %(start)s: %(missing)s bytes are missing.")
            return Truncated(gettext(ends, size=size, element=name_of(tag), start=start, missing=need - size))
        beyond = N_("%(element)s at byte %(start)s goes on to byte %(need)s, beyond what holds it, which ends at byte %(stop)s.")
        return Unreadable(gettext(beyond, element=name_of(tag), start=start, need=need, stop=stop))


def _key(entry: Entry) -> str:
    return entry.key
