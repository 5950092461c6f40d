"""Folders as people have them: tiny weights beside real tokenizers, from the files to an answer."""

import json
import shutil

import pytest
from tiny import tiny_config, tiny_tensors, write_tiny

import quipu
from quipu.errors import InvalidRequest, MissingTemplate

SMALL = {"context": 128, "concurrency": 2}


def test_a_meta_folder_speaks_meta_s_format(tmp_path, golden, meta_tokenizer_file):
    """No template anywhere: the tokenizer's special tokens say that it is Llama 3."""
    config = tiny_config(vocabulary=128256, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("pth", tmp_path, config, tiny_tensors(config))
    shutil.copy(meta_tokenizer_file("llama3"), tmp_path / "tokenizer.model")
    with quipu.load(tmp_path, **SMALL) as model:
        for row in golden("chat_vectors_llama3")["rows"]:
            simple = all(message.keys() == {"role", "content"} for message in row["messages"])
            if row["messages"] and simple and len(row["ids"]) < 100:
                assert model.prompt_ids(row["messages"]) == row["ids"], row["name"]
        assert model.prompt_ids("Hello, world!") == [128000, 9906, 11, 1917, 0], "a raw prompt begins with BOS"
        assert model.engine.end_ids == {128001, 128008, 128009}
        assert model.chat("Who are you?", max_tokens=4, ignore_eos=True).usage.completion_tokens == 4


def test_a_hugging_face_folder_speaks_through_its_template(tmp_path, transformers_smollm2):
    config = tiny_config(vocabulary=49152 + 64, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("safetensors", tmp_path, config, tiny_tensors(config))
    transformers_smollm2.save_pretrained(tmp_path)
    turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template = turns + "{{ '<|im_start|>assistant\n' }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    defaults = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 0]}
    (tmp_path / "generation_config.json").write_text(json.dumps(defaults))
    with quipu.load(tmp_path, **SMALL) as model:
        text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        assert model.prompt_ids([{"role": "user", "content": "Hi"}]) == transformers_smollm2(text)["input_ids"]
        assert model.sampling({}).temperature == 0.6
        assert model.sampling({"temperature": 0}).temperature == 0
        assert {0, 2} <= model.engine.end_ids
        answer = model.generate("a", max_tokens=50, temperature=100, top_p=1, ignore_eos=True)
        assert max(answer.choices[0].token_ids) < 49152, "rows that pad the output layer are never drawn"


def test_a_base_model_completes_but_does_not_chat(tmp_path, transformers_smollm2):
    config = tiny_config(vocabulary=49152, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("safetensors", tmp_path, config, tiny_tensors(config))
    transformers_smollm2.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with quipu.load(tmp_path, **SMALL) as model:
        assert model.generate("Once", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
        with pytest.raises(MissingTemplate, match="template"):
            model.chat("Who are you?")


def test_a_draft_model_guesses_for_another_and_changes_nothing(tmp_path, transformers_smollm2):
    """The draft is the model itself: its guesses are right, and cost what they gain, so that there are only tries."""
    config = tiny_config(vocabulary=49152, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("safetensors", tmp_path, config, tiny_tensors(config))
    transformers_smollm2.save_pretrained(tmp_path)
    wanted = {"temperature": 0, "max_tokens": 30, "ignore_eos": True}
    with quipu.load(tmp_path, dtype="float32", **SMALL) as model:
        alone = model.generate("Once upon a time", **wanted)
    with quipu.load(tmp_path, dtype="float32", draft=tmp_path, **SMALL) as model:
        assert model.generate("Once upon a time", **wanted) == alone
        stats = model.engine.stats()
        assert 0 < stats.accepted_tokens == stats.drafted_tokens < 10


def test_a_draft_model_with_other_tokens_is_refused_before_anything_is_loaded(tmp_path, meta_tokenizer_file):
    config = tiny_config(vocabulary=128256, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    for folder in (named := tmp_path / "named", bare := tmp_path / "bare"):
        folder.mkdir()
        write_tiny("pth", folder, config, tiny_tensors(config))
    shutil.copy(meta_tokenizer_file("llama3"), named / "tokenizer.model")
    with pytest.raises(InvalidRequest, match=r"named cannot draft for .*: it has 128256 tokens, the other 49152"):
        quipu.load(draft=named)
    with pytest.raises(InvalidRequest, match="bare has no tokenizer beside its weights"):
        quipu.load(draft=bare)
