"""Text that would take over a terminal: a written corpus, and any amount of random text."""

import random
import unicodedata
from collections.abc import Iterator

LITERALS = (
    "\x1b[31mred", "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1bP$q\x1b\\", "\x1b[6n", "\x9b31mred", "\x9d0;owned\x9c", "\rover", "up\x1b[1Aup", "back\b\b\b\bspace", "\a",
    "two\nlines", "two\r\nlines", "a\tb", "\x7f", "nul\x00l", "\x0b\x0c\x0e\x0f", "\x85next",
    "\u202egnp.exe\u202c", "\u2066isolated\u2069", "\u200eltr\u200frtl\u061c", "\u200bzero\u200cwidth\u200d\ufeff",
    "soft\u00adhyphen", "\u2028line\u2029paragraph", "\ue000private\uf8ff", "\U000f0000\U0010fffd",
    "\U000e0041\U000e007f",
    "\ufff9anno\ufffatation\ufffb", "\uffff\ufdd0", "\U0001fffe", "\U0001d173", "\u2061\u2064", "\u3164", "\uffa0",
    "[red]x[/red]", "[bold", "[/]", "[link=http://evil.example]x[/link]", "[@click=app.quit]x[/]", ":smile:",
    "{x!r}", "%s",
    "=1+1", "<script>alert(1)</script>", "\\x1b[31m", "'; DROP TABLE bus_log; --", "$(reboot)", "`reboot`",
    "--json", "-",
    "e\u0301\u0327\u0300", "🦜\u200d🦜", "日本語", "ﷺ", "a" * 300,
)  # fmt: skip
RANGES = (
    (0x00, 0x1F), (0x7F, 0xA0), (0x20, 0x7E), (0xAD, 0xAD), (0x300, 0x36F), (0x600, 0x61C), (0x115F, 0x1160),
    (0x2000, 0x206F), (0x3164, 0x3164), (0xD7FC, 0xD7FF), (0xE000, 0xE010), (0xFDD0, 0xFDEF), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFFF0, 0xFFFF), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0x1F980, 0x1F9FF), (0x1FFFE, 0x20010),
    (0xE0000, 0xE007F), (0xF0000, 0xF0003), (0x10FFFC, 0x10FFFF),
)  # fmt: skip
ACTED_ON = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def hostile_texts(count: int, seed: int = 4) -> list[str]:
    """Return that many different texts, including the corpus; none is empty and none has a lone surrogate."""
    texts = dict.fromkeys(LITERALS)
    for text in _by_chance(random.Random(seed)):
        if len(texts) >= count:
            break
        texts[text] = None
    return [*texts][:count]


def _by_chance(chance: random.Random) -> Iterator[str]:
    while True:
        parts = [
            chance.choice(LITERALS) if chance.random() < 0.1 else chr(chance.randint(*chance.choice(RANGES)))
            for _ in range(chance.randint(2, 12))
        ]
        yield "".join(parts)


def raw_characters(printed: str) -> set[str]:
    """Return the characters of an output that control a terminal or are invisible, except line ends."""
    return {character for character in set(printed) - {"\n"} if unicodedata.category(character) in ACTED_ON}
