#!/usr/bin/env python3
"""Makes the small GGUF files of fuzz/corpus/gguf, which the unit tests of `formats/src/gguf` read as well.

Purpose: files that the package `gguf` 0.19.0 wrote and not Kiln: every type with its values' hash printed, and a tiny model
of each architecture. Beside them stand the documents of two of the models as Kiln imports them (`*.json`), and files that
the fuzzer found (`unused_stop`: the stop token has the type of an unused one; `epsilon_0_in_32_bits.json`: an epsilon that is
above 0 in the 64 bits of JSON and not in the 32 of GGUF).
Invariant: the same files from every run.
Usage: gguf_fixtures.py FOLDER, with gguf and numpy installed; paste the hashes that it prints into tests/values.rs.
"""
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
TOKENS = ["a", "b", "ab", "Ġ", "Ġa", "1", "<|start|>", "<|stop|>"]


def fnv(values):
    """FNV-1a, 64 bits, of the little-endian bytes."""
    hashed = 0xcbf29ce484222325
    for byte in values.astype("<f4").tobytes():
        hashed = (hashed ^ byte) * 0x100000001b3 % 2**64
    return hashed


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types(path):
    draw, writer = np.random.default_rng(5), gguf.GGUFWriter(path, "none")
    for name in ["F32", "F16", "BF16", *HALVES]:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if name in HALVES:
            data = draw.integers(0, 256, (1, size), dtype=np.uint8)
            for at in HALVES[name]:
                data[0, at:at + 2] = np.frombuffer(np.float16(draw.normal() * 0.1).tobytes(), np.uint8)
            values = gguf.quants.dequantize(data, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            values = draw.normal(size=(1, 8)).astype(np.float32)
            data = gguf.quants.quantize(values, kind)
            values = gguf.quants.dequantize(data, kind)
            writer.add_tensor(name, data, raw_dtype=kind if name == "BF16" else None)
        print(f'    ("{name}", {values.size}, 0x{fnv(values):016x}),')
    finish(writer)


def model(path, arch):
    """One layer, width 4, two heads of 2, one head of keys (GPT-2: two), and for LLaMA the divisors of its scaling."""
    draw, writer, vocab = np.random.default_rng(7), gguf.GGUFWriter(path, arch), len(TOKENS)
    writer.add_block_count(1)
    writer.add_context_length(4)
    writer.add_embedding_length(4)
    writer.add_feed_forward_length(3)
    writer.add_head_count(2)
    shapes = {"token_embd": (vocab, 4), "output_norm": (4,), "blk.0.attn_norm": (4,), "blk.0.ffn_norm": (4,)}
    biases = []
    if arch == "gpt2":
        writer.add_layer_norm_eps(1e-5)
        shapes |= {"position_embd": (4, 4), "blk.0.attn_qkv": (12, 4), "blk.0.attn_output": (4, 4), "blk.0.ffn_up": (3, 4),
                   "blk.0.ffn_down": (4, 3)}
        biases = [name for name in shapes if "embd" not in name]
    else:
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_head_count_kv(1)
        shapes |= {"blk.0.attn_q": (4, 4), "blk.0.attn_k": (2, 4), "blk.0.attn_v": (2, 4), "blk.0.attn_output": (4, 4),
                   "blk.0.ffn_gate": (3, 4), "blk.0.ffn_up": (3, 4), "blk.0.ffn_down": (4, 3)}
    if arch == "qwen2":
        biases = ["blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v"]
    if arch == "qwen3":
        shapes |= {"blk.0.attn_q_norm": (2,), "blk.0.attn_k_norm": (2,)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"gpt2": "gpt-2", "llama": "llama-bpe"}.get(arch, "qwen2"))
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * 6 + [3, 3])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(6)
    writer.add_eos_token_id(7)
    writer.add_chat_template("{{ messages }}")
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    for name in biases:
        writer.add_tensor(f"{name}.bias", draw.normal(size=shapes[name][:1]).astype(np.float32))
    if arch == "llama":
        # The first pair of a head turns once in 2 pi tokens, which is short.
        writer.add_tensor("rope_freqs.weight", np.ones(1, np.float32))
    finish(writer)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    types(folder / "types")
    for arch in ["llama", "qwen2", "qwen3", "gpt2"]:
        model(folder / arch, arch)
    (folder / "no_tensors").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))


if __name__ == "__main__":
    main()
