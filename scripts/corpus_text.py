#!/usr/bin/env python3
"""Writes clean English text out of documentation files: corpus_text.py OUTPUT FILE...

Documents are parted by a line "%". By name a file is a page of HTML (.html), Perl's POD (.pod), or a
fortune file: text that is parted by "%" already. ".gz" after the name is unpacked. Of HTML and POD
only running text and the headings above it are kept: no code, tables, menus or paragraphs that an
earlier page had. Text is UTF-8 without malformed bytes, and no document appears twice.
"""

import gzip
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


def html_blocks(text):
    page = Page()
    page.feed(text)
    page.close()
    return page.blocks


def pod_inline(text):
    """Formatting codes to their text, innermost first: C<code>, L<text|link>, E<gt>."""
    names = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}
    text = re.sub(r"([A-Z])<<+\s(.*?)\s>>+", lambda m: m[2].replace("<", "\1").replace(">", "\2"), text, flags=re.DOTALL)

    def replaced(match):
        code, inner = match[1], match[2]
        if code in "XZ":
            return ""
        if code == "E":
            return {"lt": "\1", "gt": "\2"}.get(inner, names.get(inner, html.unescape(f"&{inner};")))
        if code == "L":
            return inner.split("|")[0].split("/")[-1].strip('"')
        return inner

    before = None
    while before != text:
        before = text
        text = re.sub(r"\b([A-Z])<([^<>]*)>", replaced, text)
    return text.replace("\1", "<").replace("\2", ">")


def pod_blocks(text):
    blocks, hidden = [], True
    for paragraph in re.split(r"\n\s*\n", text):
        command = re.match(r"=(\w+)\s*(.*)", paragraph, flags=re.DOTALL)
        if command:
            name, rest = command.groups()
            hidden = name in ("begin", "for", "cut", "encoding")
            if name.startswith("head"):
                blocks.append([True, pod_inline(rest)])
        elif not hidden and not paragraph.startswith((" ", "\t")):
            blocks.append([False, pod_inline(paragraph)])
    return blocks


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


def documents_of(path, seen):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        text = decoded(file.read())
    name = path.removesuffix(".gz")
    if name.endswith((".html", ".pod")):
        document = prose(html_blocks(text) if name.endswith(".html") else pod_blocks(text), seen)
        return [document] if len(document) >= 400 else []
    return fortunes(text)


def main(output, paths):
    paragraphs, documents = set(), {}  # a dict keeps the order and drops repetitions
    for path in paths:
        for document in documents_of(path, paragraphs):
            if document.strip():
                documents[document.strip("\n").rstrip() + "\n"] = None
    with open(output, "w", encoding="utf-8", newline="\n") as file:
        file.write("%\n".join(documents))
    print(len(documents))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
