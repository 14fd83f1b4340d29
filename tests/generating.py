"""Command lines of `wanflow generate`, and the tiny twins that they are typed for."""

from __future__ import annotations

import shlex

from tests.jobs import TINY

CATS = (
    '"Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a '
    'spotlighted stage."'
)
# The forms of the official README and of the fork's, word for word but for folders and pictures.
LINES = {
    "README, 14B": f"--task t2v-14B --size 1280*720 --ckpt_dir DIR --prompt {CATS}",
    "README, 1.3B on a 4090": "--task t2v-1.3B --size 832*480 --ckpt_dir DIR --offload_model True "
    f"--t5_cpu --sample_shift 8 --sample_guide_scale 6 --prompt {CATS}",
    "README, image": "--task i2v-14B --size 1280*720 --ckpt_dir DIR --image PIC --prompt 'a cat'",
    "README, two frames": "--task flf2v-14B --size 1280*720 --ckpt_dir DIR --first_frame PIC "
    "--last_frame PIC --prompt 'CG animation style, a small blue bird takes off'",
    "fork, image": "--task i2v-14B --image PIC --ckpt_dir DIR",
    "fork, for memory": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt a "
    "--attention_slicing true --offload_model true --t5_cpu true",
    "fork, for speed": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt a "
    "--precision fp16 --attention_slicing false --offload_model false",
    "fork, quick start": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt "
    '"A beautiful sunset over the ocean" --precision fp16 --profile_memory true --log_path logs',
    "fork, bare switches": "--task t2v-1.3B --size 480*832 --ckpt_dir DIR --prompt a "
    "--attention_slicing --offload_model --t5_cpu",
}


def words_of(form: str, put: dict[str, str]) -> list[str]:
    """The words of a form; *put* has folders and pictures for the words that stand for them."""
    return [put.get(word, word) for word in shlex.split(form)]


def line(**flags: object) -> list[str]:
    """Make the words of a small command line."""
    given = {"task": "t2v-1.3B", "size": "832*480", "ckpt_dir": TINY, "prompt": "a"} | flags
    return [str(w) for name, v in given.items() if v is not None for w in (f"--{name}", v)]
