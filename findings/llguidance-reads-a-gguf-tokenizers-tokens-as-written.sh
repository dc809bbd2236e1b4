#!/usr/bin/env bash
# llguidance 1.9.1 with a byte-level tokenizer whose decoder is a sequence, as transformers 5.17.0 makes one of a GGUF file
# of SmolLM2 (ByteFallback, Fuse, Replace, ByteLevel); tokenizers 0.23.3.
#
# A good engineer would guess: a constraint knows the bytes of each token as the tokenizer itself decodes them, or refuses
# a tokenizer that it does not understand.
# Seen: with the decoder ByteLevel alone it does; with the sequence, which decodes to the same text, it takes tokens for text
# as they are written: a space is "Ġ", and "é" four bytes instead of two. Nothing is said, a grammar then allows no space.
# text2sql/model/token_bytes.py reads the bytes from the tokenizer's own parts instead. 30 November 2026.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q llguidance==1.9.1 tokenizers==0.23.3 transformers==5.17.0 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import llguidance.hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SEQUENCE = [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "), decoders.ByteLevel()]
for name, decoder in (("ByteLevel", decoders.ByteLevel()), ("sequence", decoders.Sequence(SEQUENCE))):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoder
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["a café"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    ids = tokenizer("a é")["input_ids"]
    seen = llguidance.hf.from_tokenizer(tokenizer)
    print(f"{name}: text {tokenizer.decode(ids)!r}, bytes", [bytes(seen.decode_bytes([one])) for one in ids])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | grep bytes)
printf '%s\n' "$seen"
# Output seen:
#   ByteLevel: text 'a é', bytes [b'a', b' ', b'\xc3\xa9']
#   sequence: text 'a é', bytes [b'a', b'\xc4\xa0', b'\xc3\x83\xc2\xa9']
test "$seen" = "ByteLevel: text 'a é', bytes [b'a', b' ', b'\\xc3\\xa9']
sequence: text 'a é', bytes [b'a', b'\\xc4\\xa0', b'\\xc3\\x83\\xc2\\xa9']"
