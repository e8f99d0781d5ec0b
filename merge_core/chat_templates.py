"""Chat templates by name, in the formats that their models were trained on, and whose template a result gets.

A template is a program in Jinja; here it is text that is passed on, and never run.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from merge_core.errors import RecipeError, nearest
from merge_core.formats.safetensors_file import parse_json_object, read_json
from merge_core.sources import Source

CONFIG = "tokenizer_config.json"
APART = ("chat_template.jinja", "chat_template.json")
"""Files that readers prefer to the template in `tokenizer_config.json`."""

AUTO = "auto"
_PROMPT = "{%- if add_generation_prompt -%}{{ '%s' }}{%- endif -%}"
_EACH = "{%- for message in messages -%}{{ %s }}{%- endfor -%}"

NAMED: Mapping[str, str] = {
    "chatml": _EACH.replace("%s", r"'<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n'")
    + _PROMPT.replace("%s", r"<|im_start|>assistant\n"),
    "llama3": "{{- bos_token -}}"
    + _EACH.replace(
        "%s",
        r"'<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ message.content | trim ~ '<|eot_id|>'",
    )
    + _PROMPT.replace("%s", r"<|start_header_id|>assistant<|end_header_id|>\n\n"),
    "mistral": "{%- set ns = namespace(system='') -%}{{- bos_token -}}"
    "{%- for message in messages -%}"
    r"{%- if message.role == 'system' -%}{%- set ns.system = message.content ~ '\n\n' -%}"
    "{%- elif message.role == 'user' -%}{{ ' [INST] ' ~ ns.system ~ message.content ~ ' [/INST]' }}"
    "{%- set ns.system = '' -%}"
    "{%- elif message.role == 'assistant' -%}{{ ' ' ~ message.content ~ eos_token }}"
    "{%- else -%}{{ raise_exception('roles are system, user and assistant') }}{%- endif -%}{%- endfor -%}",
    "alpaca": "{%- for message in messages -%}{%- set text = message.content | trim -%}"
    r"{%- if message.role == 'system' -%}{{ text ~ '\n\n' }}"
    r"{%- elif message.role == 'user' -%}{{ '### Instruction:\n' ~ text ~ '\n\n' }}"
    r"{%- elif message.role == 'user_context' -%}{{ '### Input:\n' ~ text ~ '\n\n' }}"
    r"{%- elif message.role == 'assistant' -%}{{ '### Response:\n' ~ text ~ '\n\n' }}{%- endif -%}{%- endfor -%}"
    + _PROMPT.replace("%s", r"### Response:\n"),
    "exaone": "{%- for message in messages -%}"
    r"{%- if loop.first and message.role != 'system' -%}{{ '[|system|][|endofturn|]\n' }}{%- endif -%}"
    r"{{ '[|' ~ message.role ~ '|]' ~ message.content ~ ('\n' if message.role == 'user' else '[|endofturn|]\n') }}"
    "{%- endfor -%}" + _PROMPT.replace("%s", "[|assistant|]"),
}


def with_template(files: Mapping[str, bytes], wish: str, sources: Iterable[Source]) -> dict[str, bytes]:
    """The side files with the wished template: a name, Jinja, or `auto`, the one that most `sources` have.

    Raises RecipeError for a name that is not known, and where there is no tokenizer to put the template into.
    """
    template = _most_common(sources) if wish == AUTO else _template(wish)
    if template is None:
        return dict(files)
    if CONFIG not in files:
        found, expected = f"no {CONFIG}", "a base or first ingredient with a tokenizer"
        raise RecipeError(
            "there is no tokenizer for the template", where="chat_template", found=found, expected=expected
        )
    config = parse_json_object(files[CONFIG], CONFIG) | {"chat_template": template}
    kept = {name: content for name, content in files.items() if name not in APART}
    return kept | {CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()}


def _template(wish: str) -> str:
    if "{" in wish:
        return wish
    if wish not in NAMED:
        known = nearest(wish, [*NAMED, AUTO])
        raise RecipeError(
            "unknown chat template", where="chat_template", found=repr(wish[:80]), expected=f"{known}, or Jinja"
        )
    return NAMED[wish]


def _most_common(sources: Iterable[Source]) -> str | None:
    found = Counter(template.strip() for source in sources if (template := _template_of(source)))
    return found.most_common(1)[0][0] if found else None


def _template_of(source: Source) -> str | None:
    if APART[0] in source.files:
        return source.files[APART[0]].read_text(encoding="utf-8", errors="replace")
    if CONFIG not in source.files:
        return None
    template = read_json(source.files[CONFIG], CONFIG).get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
