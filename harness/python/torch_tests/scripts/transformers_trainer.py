"""transformers' Trainer on a tiny GPT-2, with accumulation, rows of several lengths, and an evaluation per epoch."""

import sys
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(SEED)
model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0))
rows = [torch.randint(1, 48, (4 + index % 9,)) for index in range(46)]


def collate(samples):
    width = max(map(len, samples))
    tokens, labels, mask = torch.zeros(3, len(samples), width, dtype=torch.long)
    labels = labels - 100
    for at, row in enumerate(samples):
        tokens[at, : len(row)] = labels[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


arguments = TrainingArguments(
    tempfile.mkdtemp(),
    per_device_train_batch_size=2,
    gradient_accumulation_steps=4,
    num_train_epochs=2,
    learning_rate=1e-3,
    lr_scheduler_type="cosine",
    warmup_steps=2,
    eval_strategy="epoch",
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
    seed=SEED,
)
Trainer(model, arguments, train_dataset=rows[:38], eval_dataset=rows[38:], data_collator=collate).train()
