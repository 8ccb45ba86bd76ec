"""Trains tokenizer and text encoder: from a sentence on a character, tell mood and look, hair and what is worn."""

import io
import pathlib

import numpy as np
import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F

from muon import Muon
from sentences import LABELS, caption, paraphrase
from text_encoder import CONFIG, EXTRA_IDS, TextEncoder, pad
from training import Run, arguments

UNKNOWN = 2


def examples(rng, count):
    return [(caption if rng.random() < 0.35 else paraphrase)(rng) for _ in range(count)]


def train_tokenizer(path, rng, vocabulary=1000):
    """Ids as UMT5 has them: pad 0, end 1, unknown 2, no start."""
    out = io.BytesIO()
    texts = [text for text, _ in examples(rng, 8000)]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=out, vocab_size=vocabulary, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
                                             bos_id=-1, hard_vocab_limit=False, num_threads=1, minloglevel=2, character_coverage=1.0,
                                             required_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'-,.!?;:()\"")
    pathlib.Path(path).write_bytes(out.getvalue())


class Reader(nn.Module):
    """The encoder and the heads that teach it; every row is asked, so that each carries the sentence's meaning."""

    def __init__(self, vocabulary):
        super().__init__()
        self.encoder = TextEncoder(dict(CONFIG, vocabulary=vocabulary))
        self.heads = nn.ModuleDict({name: nn.Linear(CONFIG["dim"], len(values)) for name, values in LABELS.items()})

    def forward(self, ids, real):
        """-> name of a label: scores [B, T, classes]."""
        rows = self.encoder(ids, real)
        return {name: head(rows) for name, head in self.heads.items()}


def collate(pieces, sentences, sampling=False):
    """sampling: a word falls into other pieces each time, so that no spelling rests on one of them."""
    ids, real = pad([pieces.encode(text, enable_sampling=sampling, alpha=0.2, nbest_size=-1) + [pieces.eos_id()] for text, _ in sentences])
    return ids, real, {name: torch.tensor([values.index(labels.get(name, "")) for _, labels in sentences]) for name, values in LABELS.items()}


def mean_rows(scores, real):
    """[B, T, C] -> [B, C]."""
    return (scores * real[..., None]).sum(1) / real.sum(1, keepdim=True)


def loss_of(model, batch):
    ids, real, labels = batch
    noisy = torch.where((torch.rand(ids.shape) < 0.06 * torch.rand(len(ids), 1) * 2) & real, torch.full_like(ids, UNKNOWN), ids)
    loss = 0
    for name, scores in model(noisy, real).items():
        wanted, weight = labels[name], 1.0 if name in ("mood", "look") else 0.3
        rows = F.cross_entropy(scores.transpose(1, 2), wanted[:, None].expand(ids.shape), reduction="none")
        loss = loss + weight * ((rows * real).sum() / real.sum() + F.cross_entropy(mean_rows(scores, real), wanted))
    return loss


@torch.no_grad()
def accuracy(model, batch):
    """-> name: share of the sentences read right by the mean over their rows; where it is said, for what may go unsaid."""
    ids, real, labels = batch
    out = {}
    for name, scores in model(ids, real).items():
        wanted = labels[name]
        counted = torch.ones_like(wanted, dtype=torch.bool) if name in ("mood", "look") else wanted > 0
        right = mean_rows(scores, real).argmax(-1) == wanted
        out[name] = round(float(right[counted].float().mean()), 3) if counted.any() else None
    return out


def main():
    parser = arguments(__doc__, "text.pt", 3, 2e-3)
    parser.add_argument("--tokenizer", help="made if it is not there (default: spiece.model beside the checkpoint)")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng, held_rng = np.random.default_rng(3), np.random.default_rng([3, 77])
    tokenizer = pathlib.Path(args.tokenizer or pathlib.Path(args.out).parent / "spiece.model")
    if not tokenizer.exists():
        train_tokenizer(tokenizer, rng)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    model, average = Reader(pieces.vocab_size() + EXTRA_IDS), Reader(pieces.vocab_size() + EXTRA_IDS)
    held = {"captions": collate(pieces, [caption(held_rng) for _ in range(400)]), "new forms": collate(pieces, [paraphrase(held_rng, True) for _ in range(400)])}
    run = Run(args, model, Muon(model, args.lr, skip=("embedding", "heads")))
    while run.unfinished():
        batch = collate(pieces, examples(rng, 64), sampling=True)
        loss = run.step(lambda: loss_of(model, batch))
        if run.due(20):
            average.load_state_dict(run.average)
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, loss {loss:.4f}, right {[(k, accuracy(average, v)) for k, v in held.items()]}", flush=True)
            run.save(config=model.encoder.config)


if __name__ == "__main__":
    main()
