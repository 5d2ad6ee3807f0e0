"""What a tool of the MCP server answers: JSON, and its pictures as pictures. Gradio gives text as Python prints it."""

import json
from collections.abc import Iterator
from typing import Any

PNG = "data:image/png;base64,"


def answer_in_json(server: Any) -> None:
    """Let gradio's MCP server (`app.mcp_server_obj`) answer so."""
    server.postprocess_output_data = lambda data, _root_url: list(contents(data, server.types))


def contents(answers: list[Any], types: Any) -> Iterator[Any]:
    """The parts of a message: for each answer its text, in which pictures are numbered, then these pictures."""
    for answer in answers:
        pictures: list[str] = []
        yield types.TextContent(type="text", text=json.dumps(_taken_out(answer, pictures)))
        for picture in pictures:
            yield types.ImageContent(type="image", data=picture.removeprefix(PNG), mimeType="image/png")


def _taken_out(value: Any, pictures: list[str]) -> Any:
    match value:
        case dict():
            return {name: _taken_out(item, pictures) for name, item in value.items()}
        case list():
            return [_taken_out(item, pictures) for item in value]
        case str() if value.startswith(PNG):
            pictures.append(value)
            return f"picture {len(pictures)}"
    return value
