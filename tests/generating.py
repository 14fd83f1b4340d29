"""Command lines of `wanflow generate`, and the tiny twins that they are typed for."""

from __future__ import annotations

import re
import shlex

from tests.jobs import TINY

CATS = (
    '"Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a '
    'spotlighted stage."'
)
BEACH = '"Summer beach vacation style, a white cat wearing sunglasses sits on a surfboard."'
_BIRD = '"CG animation style, a small blue bird takes off from the ground, flapping its wings."'
_SNAKE = '"在一个欢乐而充满节日气氛的场景中"'
_BEAUTY = "'一个朴素端庄的美人'"
_LESS = "--offload_model True --convert_model_dtype"
# The forms of both official READMEs for one card and of the fork's, word for word but for folders,
# pictures and the ends of long prompts.
LINES = {
    "2.1, t2v-14B": f"--task t2v-14B --size 1280*720 --ckpt_dir DIR --prompt {CATS}",
    "2.1, t2v-1.3B on a 4090": "--task t2v-1.3B --size 832*480 --ckpt_dir DIR "
    "--offload_model True --t5_cpu --sample_shift 8 --sample_guide_scale 6 --prompt " + CATS,
    "2.1, i2v-14B": f"--task i2v-14B --size 1280*720 --ckpt_dir DIR --image PIC --prompt {BEACH}",
    "2.1, flf2v-14B": "--task flf2v-14B --size 1280*720 --ckpt_dir DIR --first_frame PIC "
    f"--last_frame PIC --prompt {_BIRD}",
    "2.1, vace-1.3B": "--task vace-1.3B --size 832*480 --ckpt_dir DIR --src_ref_images PICS "
    f"--prompt {_SNAKE}",
    "2.1, t2i-14B": f"--task t2i-14B --size 1024*1024 --ckpt_dir DIR  --prompt {_BEAUTY}",
    "2.2, t2v-A14B": f"--task t2v-A14B --size 1280*720 --ckpt_dir DIR {_LESS} --prompt {CATS}",
    "2.2, i2v-A14B": f"--task i2v-A14B --size 1280*720 --ckpt_dir DIR {_LESS} --image PIC "
    f"--prompt {BEACH}",
    "2.2, ti2v-5B, text": f"--task ti2v-5B --size 1280*704 --ckpt_dir DIR {_LESS} --t5_cpu "
    f"--prompt {CATS}",
    "2.2, ti2v-5B, image": f"--task ti2v-5B --size 1280*704 --ckpt_dir DIR {_LESS} --t5_cpu "
    f"--image PIC --prompt {BEACH}",
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
_SOME = "--task t2v-14B --size 1280*720 --ckpt_dir DIR"
_I2V = "--task i2v-14B --size 1280*720 --ckpt_dir DIR --image PIC"
_FLF2V = "--task flf2v-14B --size 1280*720 --ckpt_dir DIR --first_frame PIC --last_frame PIC"
_A14B = "--task t2v-A14B --size 1280*720 --ckpt_dir DIR"
_CARDS = "--dit_fsdp --t5_fsdp --ulysses_size 8"
_T2I = f"{_CARDS} --base_seed 0 --frame_num 1 --task t2i-14B  --size 1024*1024"
_API = "--use_prompt_extend --prompt_extend_method 'dashscope'"
_QWEN = "--use_prompt_extend --prompt_extend_method 'local_qwen' --prompt_extend_target_lang 'zh'"
_VL = "--use_prompt_extend --prompt_extend_model Qwen/Qwen2.5-VL-7B-Instruct"
# The rest of both READMEs: for several cards (torchrun), or with a prompt extended.
NOT_WHOLE = f"""
{_SOME} {_CARDS} --prompt {CATS}
{_SOME} --prompt {CATS} {_API} --prompt_extend_target_lang 'zh'
{_SOME} --prompt {CATS} {_QWEN}
{_I2V} {_CARDS} --prompt {BEACH}
{_I2V} {_VL} --prompt {BEACH}
{_I2V} {_API} --prompt {BEACH}
{_FLF2V} {_CARDS} --prompt {_BIRD}
{_FLF2V} {_VL} --prompt {_BIRD}
{_FLF2V} {_API} --prompt {_BIRD}
--task vace-14B --size 1280*720 --ckpt_dir DIR {_CARDS} --src_ref_images PICS --prompt {_SNAKE}
{_T2I} --prompt {_BEAUTY} --ckpt_dir DIR
--task t2i-14B --size 1024*1024 --ckpt_dir DIR  --prompt {_BEAUTY} --use_prompt_extend
{_T2I} --ckpt_dir DIR --prompt {_BEAUTY} --use_prompt_extend
{_A14B} {_CARDS} --prompt {CATS}
{_A14B} {_CARDS} --prompt {CATS} {_API} --prompt_extend_target_lang 'zh'
{_A14B} {_CARDS} --prompt {CATS} {_QWEN}
--task i2v-A14B --size 1280*720 --ckpt_dir DIR --image PIC {_CARDS} --prompt {BEACH}
--task i2v-A14B --size 1280*720 --ckpt_dir DIR --prompt '' --image PIC {_CARDS} {_API}
--task ti2v-5B --size 1280*704 --ckpt_dir DIR {_CARDS} --image PIC --prompt {BEACH}
""".strip().splitlines()
OTHERS = """
--task s2v-14B --size 1024*704 --ckpt_dir DIR --convert_model_dtype --image PIC --audio talk.wav
--task s2v-14B --size 1024*704 --ckpt_dir DIR --image PIC --enable_tts --tts_text a
--task s2v-14B --size 1024*704 --ckpt_dir DIR --dit_fsdp --ulysses_size 8 --image PIC --audio a.wav
--task animate-14B --ckpt_dir DIR --src_root_path process_results/ --refert_num 1
--task animate-14B --ckpt_dir DIR --src_root_path a/ --refert_num 1 --replace_flag
""".strip().splitlines()
_REFUSED = re.compile(r" *--(?:\w+_fsdp|ulysses_size \S+|use_\w+|prompt_extend_\w+ \S+)")


def served_part(form: str) -> str:
    """What one device serves of a form of NOT_WHOLE."""
    return _REFUSED.sub("", form)


def words_of(form: str, put: dict[str, str]) -> list[str]:
    """The words of a form; *put* has folders and pictures for the words that stand for them."""
    return [put.get(word, word) for word in shlex.split(form)]


def line(**flags: object) -> list[str]:
    """Make the words of a small command line."""
    given = {"task": "t2v-1.3B", "size": "832*480", "ckpt_dir": TINY, "prompt": "a"} | flags
    return [str(w) for name, v in given.items() if v is not None for w in (f"--{name}", v)]
