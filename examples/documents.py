"""What a file says and what a model says of it: text, Markdown, HTML and PDF.

python examples/documents.py FILE [QUESTION]
"""

import sys

import quipu
from quipu import documents

QUESTION = "What is this text about?"


def main(path: str, question: str = QUESTION) -> None:
    document = documents.read(path)
    print(f"{document.title or path}: {document.media_type}, {len(document.text)} characters")
    for note in document.notes:
        print(f"note: {note}")
    beginning = document.text[:300]
    print(beginning)
    with quipu.load("smollm2-135m-instruct") as model:
        answer = model.chat(f"{beginning}\n\n{question}", temperature=0, max_tokens=80)
        print(f"> {question}\n{answer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
