#!/usr/bin/env python3
"""Writes clean English text out of documentation files: corpus_text.py OUTPUT FILE...

Documents are parted by a line "%". A file is a page of HTML (.html) or a fortune file: text that is
parted by "%" already. Of HTML only running text and the headings above it are kept: no code, tables,
menus or paragraphs that an earlier page had. The text is UTF-8 without malformed bytes or control
characters, and no document appears twice. Prints the number of documents.
"""

import html.parser
import re
import sys

MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffd]")


def decoded(raw):
    """UTF-8 where the file is; Latin-1 where bytes that are no UTF-8 outnumber the ones that are."""
    valid = MULTIBYTE.findall(raw)
    high_bytes = sum(byte >= 0x80 for byte in raw)
    is_latin1 = high_bytes - sum(map(len, valid)) > len(valid)
    text = raw.decode("latin-1" if is_latin1 else "utf-8", errors="ignore").replace("\r\n", "\n")
    text = re.sub(".\x08", "", text)  # overstruck characters: "_\bx"
    return CONTROLS.sub("", text)


def fortunes(text):
    return re.split(r"^%[ \t]*$\n?", text, flags=re.MULTILINE)


class Page(html.parser.HTMLParser):
    """Collects [is_heading, text] of every block of an HTML page."""

    BLOCKS = set("address article blockquote body br center dd div dl dt fieldset figcaption h1 h2 h3 h4 h5 h6 hr "
                 "html li main ol p section table tbody td th thead tr ul".split())
    # DocBook's, Sphinx's and Apache's boxes around the text go by class.
    HIDDEN = set("aside button form footer head header math nav pre script select style svg table title".split())
    HIDDEN_CLASSES = re.compile(r"\b(toc|nav\w*|footer|sphinxsidebar|related|langavail|toplang|page-header)\b")

    def __init__(self):
        super().__init__()
        self.blocks = [[False, ""]]
        self.hidden = []  # open tags from the outermost hidden one inwards, of its own kind

    def handle_starttag(self, tag, attributes):
        if self.hidden:
            if tag == self.hidden[0]:
                self.hidden.append(tag)
            return
        style = dict(attributes).get("class") or ""
        if tag in self.HIDDEN or (tag == "div" and self.HIDDEN_CLASSES.search(style)):
            self.hidden.append(tag)
        if tag in self.BLOCKS or self.hidden:
            self.blocks.append([tag in ("h1", "h2", "h3", "h4"), ""])

    def handle_endtag(self, tag):
        if self.hidden:
            if tag == self.hidden[0]:
                self.hidden.pop()
        elif tag in self.BLOCKS:
            self.blocks.append([False, ""])

    def handle_data(self, data):
        if not self.hidden:
            self.blocks[-1][1] += data


def is_prose(text):
    letters = sum(character.isalpha() or character == " " for character in text)
    return len(text) >= 60 and text.count(" ") >= 9 and text[-1] in ".!?:;)\"'" and letters >= 0.88 * len(text)


def prose(blocks, seen):
    """One document: prose paragraphs that are new, each run of them under its nearest heading."""
    paragraphs, heading = [], ""
    for is_heading, text in blocks:
        text = " ".join(text.split())
        if is_heading and text:
            heading = text.rstrip("¶#").strip()
        elif text and is_prose(text) and text not in seen:
            seen.add(text)
            if heading:
                paragraphs.append(heading)
                heading = ""
            paragraphs.append(text)
    return "\n\n".join(paragraphs)


def main(output, paths):
    seen, documents = set(), {}  # a dict keeps the order and drops repetitions
    for path in paths:
        with open(path, "rb") as file:
            text = decoded(file.read())
        if path.endswith(".html"):
            page = Page()
            page.feed(text)
            page.close()
            document = prose(page.blocks, seen)
            found = [document] if len(document) >= 400 else []  # shorter ones are menus and stubs
        else:
            found = fortunes(text)
        documents.update((document.strip("\n").rstrip() + "\n", None) for document in found if document.strip())
    if not documents:
        sys.exit(f"corpus_text.py: no text in {len(paths)} files")
    with open(output, "w", encoding="utf-8", newline="\n") as file:
        file.write("%\n".join(documents))
    print(len(documents))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except OSError as error:
        sys.exit(f"corpus_text.py: {error}")
