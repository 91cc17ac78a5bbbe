"""The words that we do not use in prose; CONTRIBUTING says what to write instead."""

import re

WORD_LIST = re.compile(
    r"\b(told|tells of|anew|amidst?|whoever|somebody|nobody|everybody|hears?|heard|beside|meanwhile|once more"
    r"|now and then|for good|no more(?! than)|in the place of"
    r"|comes? back|came back|gives? back|gave back|given back)\b",
    re.IGNORECASE,
)
