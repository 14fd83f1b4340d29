"""Train the text encoder, then the transformer by flow matching on the pool's latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from diffusers import WanTransformer3DModel
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import UMT5Config, UMT5EncoderModel

from scripts.train_tiny import shapes
from scripts.train_tiny.captions import caption
from scripts.train_tiny.loop import Loop, compiled, plateau, set_rate
from scripts.train_tiny.muon import StackedMuon
from scripts.train_tiny.pool import CLASSES, Pool, answers
from scripts.train_tiny.tokens import make_tokenizer
from scripts.train_tiny.world import draw_scene

SHIFT = 3.0  # the graph's
_TOKENS = 512  # the length that a prompt is padded to when the model is used
_LENGTH = 16  # captions of a step are padded to a multiple of this: few shapes to compile for
_GIVEN = 0.25  # share of clips whose first frame is given, at a time of zero (as in Wan2.2 5B)
_DROPPED = 0.1  # share of prompts replaced by the empty one
_ASKED = 128  # captions a step that the text encoder is asked about
_TEXT_RATE = 1.5e-3
_PATCHES = 5, 4, 4  # of a clip: frames, rows, columns


class QuickAttention:
    """The numbers of upstream's `WanAttnProcessor`, sooner: what a training step does most.

    A text's padding is given once, with its weight as a bias: its tokens are all the same, so that
    n of them are one with log n added to its score.
    """

    def __init__(self) -> None:
        self.bias: torch.Tensor | None = None

    def __call__(
        self, attn: Any, hidden: torch.Tensor, text: torch.Tensor | None = None,
        mask: torch.Tensor | None = None, rotary: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        """Attend to the text, or to itself where there is none."""
        del mask
        source = hidden if text is None else text
        query, key = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(source))
        heads = [t.unflatten(2, (attn.heads, -1)) for t in (query, key, attn.to_v(source))]
        if rotary is not None:
            turn = rotary[0][..., 0::2].float(), rotary[1][..., 1::2].float()
            heads[:2] = [_turned(t, *turn) for t in heads[:2]]
        query, key, value = (t.transpose(1, 2) for t in heads)
        bias = None if text is None or self.bias is None else self.bias.to(value.dtype)
        query, key = query.to(value.dtype), key.to(value.dtype)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return torch.as_tensor(attn.to_out[0](out.transpose(1, 2).flatten(2, 3)))


def _turned(values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn pairs; in another order than upstream's, the same for queries and keys."""
    first, second = values[..., 0::2], values[..., 1::2]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Model(nn.Module):
    """Text encoder, transformer, and the heads that answer questions about a caption.

    The heads make the text encoder learn sooner what the words mean; they are not kept.
    """

    def __init__(self) -> None:
        super().__init__()
        settings = UMT5Config(**shapes.TEXT)
        settings._attn_implementation = "sdpa"  # noqa: SLF001 - what the runtime uses
        self.text = UMT5EncoderModel(settings).eval()  # eval: no dropout
        for bias in self.positions():
            nn.init.normal_(bias, std=1.5)
        self.transformer = WanTransformer3DModel(**shapes.TRANSFORMER)
        self.heads = nn.Linear(shapes.TEXT["d_model"], sum(CLASSES), bias=False)
        nn.init.normal_(self.heads.weight, std=0.02)
        start_from_identity(self.transformer)
        self.attention = QuickAttention()
        for block in self.transformer.blocks:
            block.attn1.set_processor(self.attention)
            block.attn2.set_processor(self.attention)

    def positions(self) -> list[nn.Parameter]:
        """The text encoder's relative positions: a word's neighbours say what it is said of.

        From upstream's small start, at the others' rate, they would take thousands of steps.
        """
        return [p for n, p in self.text.named_parameters() if "relative_attention_bias" in n]

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`[n, tokens, width]`, zeros where the mask is."""
        hidden = self.text(input_ids=ids, attention_mask=mask).last_hidden_state
        return torch.as_tensor(hidden.masked_fill(mask.unsqueeze(-1) == 0, 0))

    def forward(
        self, latents: torch.Tensor, time: torch.Tensor, text: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Predict the velocity."""
        self.attention.bias = bias
        out = self.transformer(latents, time, text, return_dict=False)[0]
        return torch.as_tensor(out)


def start_from_identity(transformer: Any) -> None:
    """Let the transformer's output start as its input: nearly the velocity where all is noise.

    A patch's 64 numbers go through the first 64 places; the others start as a constant, which
    keeps the last norm from dividing by the patch's own size.
    """
    kernel, out = transformer.patch_embedding, transformer.proj_out
    count, width = out.weight.shape
    if 2 * count != width:
        raise ValueError(f"{width} places are not twice a patch's {count} numbers")
    with torch.no_grad():
        turn = torch.linalg.qr(torch.randn(count, count)).Q
        kernel.weight[:count] = turn.view(count, *kernel.weight.shape[1:])
        nn.init.normal_(kernel.weight[count:], std=0.02)
        kernel.bias.zero_()
        kernel.bias[count::2], kernel.bias[count + 1 :: 2] = 1.5, -1.5
        channels_last = turn.view(count, kernel.weight.shape[1], -1).transpose(1, 2)
        out.weight.zero_()
        out.weight[:, :count] = channels_last.reshape(count, count).T * 1.27
        out.bias.zero_()


def tokenize(tokenizer: Tokenizer, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask `[n, tokens]`, with at least one padding token at each end."""
    found = [tokenizer.encode(prompt).ids for prompt in prompts]
    length = max(map(len, found)) // _LENGTH * _LENGTH + _LENGTH
    ids = torch.tensor([one + [0] * (length - len(one)) for one in found])
    mask = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in found])
    return ids, mask


def padding_bias(mask: torch.Tensor, totals: torch.Tensor) -> torch.Tensor:
    """`[n, 1, 1, tokens]`: the padding present stands for all of it up to the total length."""
    real = mask.sum(1)
    weight = torch.log((totals - real) / (mask.shape[1] - real))
    return torch.where(mask.bool(), torch.zeros(()), weight[:, None])[:, None, None]


@attrs.frozen
class Sample:
    """What a step learns from; the first frame of the last *given* clips is given."""

    latents: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    bias: torch.Tensor
    given: int


def sample(
    pool: Pool, scale: torch.Tensor, tokenizer: Tokenizer, *, seed: int, step: int, count: int
) -> Sample:
    """Draw a step's clips, captions, noise and times; *scale* is latents' mean and deviation."""
    random = np.random.default_rng((seed, step))
    chosen = random.integers(0, len(pool), count)
    dropped = random.random(count) < _DROPPED
    prompts = [
        "" if drop else pool.captions[i][int(random.integers(0, len(pool.captions[i])))]
        for i, drop in zip(chosen, dropped, strict=True)
    ]
    ids, mask = tokenize(tokenizer, prompts)
    totals = np.where(random.random(count) < 0.5, _TOKENS, 2 ** random.uniform(6, 9, count))
    # Stratified: each step sees all times.
    even = (random.permutation(count) + random.random(count)) / count
    sigma = torch.from_numpy(SHIFT * even / (1 + (SHIFT - 1) * even)).float()
    rows = torch.from_numpy(chosen)
    generator = torch.Generator().manual_seed(int(random.integers(0, 2**62)))
    latents = (pool.latents[rows] - scale[0]) / scale[1]
    return Sample(
        latents, torch.randn(latents.shape, generator=generator), sigma, ids, mask,
        padding_bias(mask, torch.from_numpy(totals).float()), round(count * _GIVEN),
    )  # fmt: skip


def given_times(times: torch.Tensor) -> torch.Tensor:
    """Times `[n, tokens]` of clips whose first frame is given, from `[n]`: zero where it is."""
    each = times.view(-1, 1, 1, 1).repeat(1, *_PATCHES)
    each[:, 0] = 0
    return each.flatten(1)


def velocity_error(model: Model, drawn: Sample, forward: Callable[..., Any]) -> torch.Tensor:
    """The mean squared error of the velocity: what flow matching minimises.

    *forward* is the model's, compiled or not. Given frames count for nothing.
    """
    at = drawn.sigma.view(-1, 1, 1, 1, 1)
    noisy = (1 - at) * drawn.latents + at * drawn.noise
    wanted, times = drawn.noise - drawn.latents, drawn.sigma * 1000
    free = slice(None, -drawn.given)
    given = slice(-drawn.given, None)
    with torch.no_grad():  # as in Wan, the text encoder is done
        text = model.encode(drawn.ids, drawn.mask)
    out = forward(noisy[free], times[free], text[free], drawn.bias[free])
    errors = (out - wanted[free]).square().flatten(1).mean(1)
    begun = torch.cat([drawn.latents[given, :, :1], noisy[given, :, 1:]], 2)
    rest = forward(begun, given_times(times[given]), text[given], drawn.bias[given])
    more = (rest - wanted[given])[:, :, 1:].square().flatten(1).mean(1)
    return torch.cat([errors, more]).mean()


def answer_error(
    model: Model, tokenizer: Tokenizer, *, seed: int, step: int, count: int
) -> torch.Tensor:
    """The cross-entropy, over all questions, of what fresh captions say: text alone is cheap."""
    random = np.random.default_rng((seed, step, 1))
    scenes = [draw_scene(random, held=False) for _ in range(count)]
    texts = [caption(random, s, ("en", "zh")[i % 2]) for i, s in enumerate(scenes)]
    ids, mask = tokenize(tokenizer, texts)
    wanted = torch.tensor([answers(scene) for scene in scenes])
    # Every token adds to each answer: a colour's own token learns what it is the colour of.
    said = (model.heads(model.encode(ids, mask)) * mask.unsqueeze(-1)).sum(1)
    errors = [
        functional.cross_entropy(logits, wanted[:, i], ignore_index=-1, reduction="sum")
        for i, logits in enumerate(said.split(CLASSES, dim=1))
    ]
    return torch.stack(errors).sum() / count


def train_text(model: Model, folder: Path, *, seed: int, quiet: Path | None, steps: int) -> None:
    """Train the text encoder alone: it should know what is said of what before drawing."""
    learned = [*model.text.parameters(), *model.heads.parameters()]
    places = {id(p) for p in model.positions()}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learned if id(p) not in places]},
        {"params": model.positions(), "factor": 15.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=_TEXT_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    tokenizer = make_tokenizer()
    kept = {"text": model.text, "heads": model.heads, "optimizer": optimizer}
    loop = Loop(folder, "text", steps, kept, quiet)
    for step in loop:
        set_rate(optimizer, plateau(step, steps, _TEXT_RATE))
        error = answer_error(model, tokenizer, seed=seed, step=step, count=_ASKED)
        optimizer.zero_grad()
        error.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        loop.note(answer=float(error.detach()))


def optimizers(model: Model, top: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformer's blocks, AdamW for its others."""
    inside = {id(p): p for p in model.transformer.blocks.parameters() if p.ndim == 2}
    rest = [p for p in model.transformer.parameters() if id(p) not in inside]
    slower: list[dict[str, Any]] = [{"params": rest, "factor": 0.25}]
    return [
        StackedMuon(inside.values(), lr=top),
        torch.optim.AdamW(slower, lr=top, betas=(0.9, 0.99), weight_decay=0.0),
    ]


class Average(nn.Module):
    """A running average of the parameters: what is kept in the end."""

    def __init__(self, model: nn.Module, keep: float = 0.999) -> None:
        super().__init__()
        self.keep = keep
        self.values = nn.ParameterList(
            nn.Parameter(p.detach().clone(), requires_grad=False) for p in model.parameters()
        )

    def update(self, model: nn.Module, step: int) -> None:
        """Take the parameters of a step in."""
        keep = min(self.keep, (step + 1) / (step + 10))
        now = [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(list(self.values), now, 1 - keep)

    def copy_to(self, model: nn.Module) -> None:
        """Give the averages to a model."""
        with torch.no_grad():
            for value, parameter in zip(self.values, model.parameters(), strict=True):
                parameter.copy_(value)


@attrs.frozen
class Course:
    """How long and how fast."""

    steps: int = 7500
    count: int = 32
    top: float = 3e-3


def train(
    model: Model, pool_at: Any, scale: torch.Tensor, folder: Path, *, seed: int,
    quiet: Path | None, course: Course,
) -> Average:  # fmt: skip
    """Train from the last checkpoint on; *pool_at* gives the pool at a step. Give the averages."""
    tokenizer, average = make_tokenizer(), Average(model)
    chosen = optimizers(model, course.top)
    kept = {"model": model, "average": average, "muon": chosen[0], "adamw": chosen[1]}
    loop, forward = Loop(folder, "dit", course.steps, kept, quiet), compiled(model.forward)
    for step in loop:
        for optimizer in chosen:
            set_rate(optimizer, plateau(step, course.steps, course.top))
        drawn = sample(pool_at(step), scale, tokenizer, seed=seed, step=step, count=course.count)
        velocity = velocity_error(model, drawn, forward)
        if not math.isfinite(float(velocity.detach())):
            raise FloatingPointError(f"step {step}: the loss is {float(velocity.detach())}")
        model.zero_grad()
        velocity.backward()
        nn.utils.clip_grad_norm_(model.transformer.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
        average.update(model, step)
        loop.note(velocity=float(velocity.detach()))
    return average
