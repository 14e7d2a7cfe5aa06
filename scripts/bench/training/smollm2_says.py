"""What SmolLM2-135M says in transformers of the rows and the sentence that `smollm2.py` gives ours.

    smollm2_says.py WIDTH STOP

Prints the loss of a row of WIDTH tokens, after which the token STOP is expected and of which the first two are no targets, and
the likeliest tokens after the sentence. It runs in the environment of the peers, whose script `generate.py` has the same
sentence and options.
"""

import json
import os
import sys

SENTENCE = "The history of the steam engine begins"
# The sentence over and over: with the token that begins a text, 256 of them.
ROW = SENTENCE * 36 + "The history of"
# The tokens that follow the sentence.
NEW = 64


def main(width, stop):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(2)
    folder, file = os.environ["SMOLLM2"], "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    ids, row = (tokenizer(text, return_tensors="pt").input_ids for text in (SENTENCE, ROW))
    assert row.shape == (1, width), row.shape
    with torch.no_grad():
        targets = torch.cat([row[0, 2:], torch.tensor([stop])])
        loss = torch.nn.functional.cross_entropy(model(row).logits[0, 1:], targets)
        made = model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    print(json.dumps({"loss": loss.item(), "greedy": made[0, ids.shape[1]:].tolist()}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
