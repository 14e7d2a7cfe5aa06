#!/usr/bin/env python3
"""Reads and writes GGUF with Kiln and with the packages `gguf` and `tokenizers`, and demands the same.

Purpose: values of every type that is read, to the bit; files that Kiln writes in every precision, key by key and byte by
byte; a model there and back, with the ids of its tokenizer.
Invariant: everything is made from a fixed seed, so a failure repeats.
Usage: gguf_oracle.py PROGRAM, where PROGRAM is `examples/gguf.rs`, built. A virtual environment with pinned packages is made
under target/ on the first call (network: PyPI).
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

PINS = ["gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0", "tokenizers==0.23.3"]

# Where the scales in half precision stand in a block: any other bytes are values.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [0]}
CONFIG = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
          "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu"}
TEXT = "The year 1999 wasn't  like 2024,\n\n\tor was it? Ünïcödé, 日本語 и мир: 3.14 <|stop|> x+=1;\r\n" * 40


def fail(what):
    sys.exit(f"FAILED {what}")


def check_values(program, folder):
    """Random blocks of every type, against `gguf.quants.dequantize`."""
    import gguf
    import numpy as np
    draw = np.random.default_rng(1)
    file, out = folder / "values.gguf", folder / "values"
    writer, expected = gguf.GGUFWriter(file, "llama"), []
    for name in ["F32", "BF16", *HALVES]:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = draw.integers(0, 256, (33, 512 // block, size), dtype=np.uint8)
        for at in HALVES.get(name, []):
            scale = (draw.normal(size=blocks.shape[:2]) * 0.1).astype(np.float16)
            blocks[:, :, at:at + 2] = scale[..., None].view(np.uint8)
        rows = blocks.reshape(33, -1)
        if name in ("F32", "BF16"):
            # No infinity and no NaN: exponents of 7 bits.
            rows[:, (3 if name == "F32" else 1)::(4 if name == "F32" else 2)] &= 0xBF
        if name == "F32":
            writer.add_tensor(name, rows.view(np.float32))
        elif name == "F16":
            writer.add_tensor(name, rows.view(np.float16))
        else:
            writer.add_tensor(name, rows, raw_dtype=kind)
        expected.append((name, gguf.quants.dequantize(rows, kind).astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    subprocess.run([program, "values", file, out], check=True)
    ours, at = np.fromfile(out, np.uint32), 0
    for name, values in expected:
        theirs = values.ravel().view(np.uint32)
        wrong = np.flatnonzero(ours[at:at + theirs.size] != theirs)
        if wrong.size:
            fail(f"values of {name}: {wrong.size} of {theirs.size} differ, the first is value {wrong[0]}")
        at += theirs.size
    if at != ours.size:
        fail(f"{ours.size} values instead of {at}")
    print(f"ok: {at} values of {len(expected)} types")


def make_model(folder):
    """A small model with a trained tokenizer, as a Hugging Face folder."""
    import numpy as np
    import tokenizers
    from safetensors.numpy import save_file
    folder.mkdir()
    tokens = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokens.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokens.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<|start|>", "<|stop|>"],
                                             initial_alphabet=alphabet, show_progress=False)
    tokens.train_from_iterator([TEXT], trainer)
    tokens.save(str(folder / "tokenizer.json"))
    # Three rows of the embedding have no token.
    config = CONFIG | {"vocab_size": tokens.get_vocab_size() + 3}
    files = {"config.json": config, "generation_config.json": {"eos_token_id": [1]},
             "tokenizer_config.json": {"bos_token": "<|start|>", "eos_token": "<|stop|>", "chat_template": "{{ messages }}"}}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    width, inner, vocab, draw = 64, 80, config["vocab_size"], np.random.default_rng(2)
    shapes = {"model.embed_tokens": (vocab, width), "lm_head": (vocab, width), "model.norm": (width,)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {at + "input_layernorm": (width,), at + "post_attention_layernorm": (width,)}
        shapes |= {at + f"self_attn.{name}_proj": (rows, width) for name, rows in zip("qkvo", (64, 32, 32, 64))}
        shapes |= {at + "mlp.gate_proj": (inner, width), at + "mlp.up_proj": (inner, width),
                   at + "mlp.down_proj": (width, inner)}
    tensors = {f"{name}.weight": draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return tokens, tensors


def in_gguf(name, values):
    """The name and the values that llama.cpp's converter gives a tensor."""
    parts = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             "model.layers": "blk", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down"}
    for theirs, ours in parts.items():
        name = name.replace(theirs, ours)
    if "attn_q." in name or "attn_k." in name:
        heads = 4 if "attn_q." in name else 2
        values = values.reshape(heads, 2, 8, 64).swapaxes(1, 2).reshape(values.shape)
    return name, values


def check_written(program, folder, tensors):
    import gguf
    import numpy as np
    for precision in ["f32", "f16", "q8_0"]:
        file = folder / f"{precision}.gguf"
        subprocess.run([program, "export", folder / "model", file, precision], check=True)
        read = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
        for hf_name, values in tensors.items():
            name, values = in_gguf(hf_name, values)
            kind = precision.upper() if values.ndim > 1 else "F32"
            if kind == "Q8_0" and values.shape[-1] % 32:
                kind = "F16"
            expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
            found = read.pop(name)
            if found.tensor_type.name != kind or not np.array_equal(found.data.view(np.uint8), expected.view(np.uint8)):
                fail(f"{precision}: tensor {name} is not what gguf.quants.quantize makes")
        if read:
            fail(f"{precision}: tensors beside the model's: {list(read)}")
        print(f"ok: {len(tensors)} tensors written in {precision}")


def check_there_and_back(program, folder, tokens, tensors):
    import numpy as np
    import tokenizers
    from safetensors.numpy import load_file
    subprocess.run([program, "import", folder / "f32.gguf", folder / "back"], check=True)
    back = load_file(folder / "back" / "model.safetensors")
    if back.keys() != tensors.keys() or any(not np.array_equal(back[name], tensors[name]) for name in tensors):
        fail("there and back: other tensors")
    config = json.loads((folder / "back" / "config.json").read_text())
    wrong = [name for name, value in CONFIG.items() if config[name] != value]
    if wrong:
        fail(f"there and back: config differs in {wrong}")
    theirs = tokens.encode(TEXT).ids
    ours = tokenizers.Tokenizer.from_file(str(folder / "back" / "tokenizer.json")).encode(TEXT).ids
    if ours != theirs:
        fail("there and back: the tokenizer gives other ids")
    print(f"ok: there and back, {len(ours)} ids")


def main():
    pinned.enter("gguf-oracle", PINS)
    program = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_values(program, folder)
        tokens, tensors = make_model(folder / "model")
        check_written(program, folder, tensors)
        check_there_and_back(program, folder, tokens, tensors)


if __name__ == "__main__":
    main()
