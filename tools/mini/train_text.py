"""Trains tokenizer and text encoder: from a sentence on a character, tell the mood and where it looks."""

import io
import pathlib

import numpy as np
import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F

from character import MOODS, character
from muon import Muon
from text_encoder import CONFIG, EXTRA_IDS, Prompts, TextEncoder, pad
from training import Run, arguments
from world import LOOKS, caption_of

MOOD_WORDS = {"neutral": "calm,neutral,relaxed,serious,quiet,plain,composed".split(","),
              "happy": "happy,cheerful,smiling,glad,joyful,friendly,delighted,laughing,merry".split(","),
              "angry": "angry,furious,mad,annoyed,grumpy,cross,frowning,upset".split(","),
              "surprised": "surprised,astonished,amazed,startled,shocked,wide-eyed,stunned".split(",")}
LOOK_WORDS = {"at the camera": ["at the camera", "straight ahead", "at the viewer", "at us", "into the camera", "forward"],
              "to the left": ["to the left", "left", "leftwards", "to its left side"],
              "to the right": ["to the right", "right", "rightwards", "to its right side"]}
WHO = "a woman,a man,a girl,a boy,a person,someone,a cartoon character,a friendly cartoon character,an old man,she,he,a teacher,a cook,a host".split(",")
DOING = "talks,speaks,is talking,explains a recipe,tells a story,says hello,is speaking to the camera,reads the news,gives a speech,sings".split(",")
PLACES = "in a kitchen,at home,in a studio,in front of a wall,outside,in the park,with glasses,with a hat,in a red shirt,with long hair,".split(",")
FORMS = ("{mood} {who} {doing} {place}, looking {look}.", "{who} {doing} {place}. {pronoun} looks {look} and seems {mood}.", "{who}, {mood}, gazes {look}.",
         "looking {look}, {who} {doing} and is {mood}.", "{mood}, looking {look}", "{who} {doing} {place} and feels {mood}; eyes turned {look}.")
LOOK_GIVEN, MOOD_GIVEN = 0.75, 0.75  # unsaid: at the camera, neutral
NO_MOOD, NO_LOOK = ("{who} {doing} {place}, looking {look}.", "looking {look}, {who} {doing}."), ("{who} {doing} {place} and is {mood}.", "{mood} {who} {doing} {place}.")


def paraphrase(rng):
    """-> text, mood, look; what a person might type."""
    mood = str(rng.choice(MOODS)) if rng.random() < MOOD_GIVEN else "neutral"
    look = str(rng.choice(list(LOOKS))) if rng.random() < LOOK_GIVEN else "at the camera"
    pick = lambda options: str(options[rng.integers(len(options))])
    forms = FORMS
    if look == "at the camera" and rng.random() < 0.5:
        forms = NO_LOOK if mood != "neutral" or rng.random() < 0.5 else ("{who} {doing} {place}.", "{who} {doing}.")
    elif mood == "neutral" and rng.random() < 0.5:
        forms = NO_MOOD
    text = pick(forms).format(who=pick(WHO), doing=pick(DOING), place=pick(PLACES), pronoun=pick(("She", "He", "It")), mood=pick(MOOD_WORDS[mood]), look=pick(LOOK_WORDS[look]))
    text = " ".join(text.replace(" ,", ",").replace(" .", ".").split())
    return (text[:1].upper() + text[1:] if rng.random() < 0.7 else text), mood, look


def caption(rng):
    """-> text, mood, look; as the world writes them."""
    mood, look = str(rng.choice(MOODS)), str(rng.choice(list(LOOKS)))
    return caption_of(rng, character(rng), mood, look), mood, look


def examples(rng, count):
    return [(caption if rng.random() < 0.5 else paraphrase)(rng) for _ in range(count)]


def train_tokenizer(path, rng, vocabulary=800):
    """Ids as UMT5 has them: pad 0, end 1, unknown 2, no start."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([text for text, _, _ in examples(rng, 6000)]), model_writer=out, vocab_size=vocabulary,
                                             model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
                                             required_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'-,.!?;:", character_coverage=1.0)
    pathlib.Path(path).write_bytes(out.getvalue())


class Reader(nn.Module):
    """The encoder and the heads that teach it; every row is asked, so that each carries the sentence's meaning."""

    def __init__(self, vocabulary):
        super().__init__()
        self.encoder = TextEncoder(dict(CONFIG, vocabulary=vocabulary))
        self.mood, self.look = nn.Linear(CONFIG["dim"], len(MOODS)), nn.Linear(CONFIG["dim"], len(LOOKS))

    def forward(self, ids, real):
        rows = self.encoder(ids, real)
        return self.mood(rows), self.look(rows)


def collate(prompts, sentences):
    ids, real = pad([prompts.ids(text) for text, _, _ in sentences])
    return ids, real, torch.tensor([MOODS.index(m) for _, m, _ in sentences]), torch.tensor([list(LOOKS).index(l) for _, _, l in sentences])


def loss_of(model, batch):
    ids, real, moods, looks = batch
    noisy = torch.where((torch.rand(ids.shape) < 0.05) & real, torch.full_like(ids, 2), ids)
    loss = 0
    for scores, wanted in zip(model(noisy, real), (moods, looks)):
        rows = F.cross_entropy(scores.transpose(1, 2), wanted[:, None].expand(ids.shape), reduction="none")
        loss = loss + (rows * real).sum() / real.sum()
    return loss


@torch.no_grad()
def accuracy(model, batch):
    """Share of sentences whose mood, whose look is right by the mean over the rows."""
    ids, real, moods, looks = batch
    mean = lambda scores: (scores * real[..., None]).sum(1).argmax(-1)
    got = [mean(scores) for scores in model(ids, real)]
    return [round(float((g == wanted).float().mean()), 3) for g, wanted in zip(got, (moods, looks))]


def main():
    parser = arguments(__doc__, "text.pt", 1, 2e-3)
    parser.add_argument("--tokenizer", default="spiece.model", help="made if it is not there")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    if not pathlib.Path(args.tokenizer).exists():
        train_tokenizer(args.tokenizer, rng)
    pieces = sentencepiece.SentencePieceProcessor(model_file=args.tokenizer)
    model, average = Reader(pieces.vocab_size() + EXTRA_IDS), Reader(pieces.vocab_size() + EXTRA_IDS)
    prompts = Prompts(model.encoder, pieces)
    held = collate(prompts, examples(np.random.default_rng([3, 77]), 400))
    run = Run(args, model, Muon(model, args.lr, skip=("embedding",)))
    while run.unfinished():
        batch = collate(prompts, examples(rng, 64))
        loss = run.step(lambda: loss_of(model, batch))
        if run.due(20):
            average.load_state_dict(run.average)
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, loss {loss:.4f}, mood and look right {accuracy(average, held)}", flush=True)
            run.save(config=model.encoder.config)


if __name__ == "__main__":
    main()
