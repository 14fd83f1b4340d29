"""Every op: its ports, its params, the part of a model it runs, and how often it repeats."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs

from wanflow.graph.values import Value, ValueType
from wanflow.graph.wanted import Rule, Wanted

LARGEST_SEED = 2**63 - 1
# Wan's rotary table has 1,024 places in time: latent frames, of four frames each but the first.
MOST_FRAMES = 4 * 1023 + 1

# Names of diffusers' that need no download; what a plan knows of them: `scheduler/workspace.py`.
ATTENTION_BACKENDS = (
    "native", "_native_cudnn", "_native_flash", "_native_efficient", "flash", "_flash_3", "sage",
    "xformers",
)  # fmt: skip

STEP_CACHES = ("none", "teacache", "magcache", "easycache")
SAMPLER_GRIDS = ("diffusers", "official")


class PortType(StrEnum):
    """What flows through a port. The first seven are literals or inputs, the rest stages make."""

    TEXT = "text"
    INT = "int"
    FLOAT = "float"
    SIZE = "size"
    IMAGE = "image"
    VIDEO = "video"
    IMAGES = "images"
    TEXT_EMBEDDING = "text_embedding"
    IMAGE_EMBEDDING = "image_embedding"
    LATENTS = "latents"
    MASK = "mask"  # which frames are given, laid out as latents
    CONTROL = "control"  # what VACE models take beside the latents, laid out like them
    HISTORY = "history"  # what a multistep sampler remembers
    FRAMES = "frames"  # a stream: chunks of decoded frames, one in flight
    FILE = "file"
    FOLDER = "folder"


@attrs.frozen
class PortSpec:
    """An input port. `wanted` is what a literal must be; None when only a stage can feed it."""

    type: PortType
    required: bool = True
    wanted: Wanted | None = None
    about: str = ""


@attrs.frozen(kw_only=True)
class ParamSpec(Wanted):
    """A param of an op: a literal or an input of the graph, never a stage's output."""

    name: str
    default: Value
    about: str


@attrs.frozen(kw_only=True)
class OpSpec:
    """The kind of a stage. `repeats` says what its steps are: "", `steps` or `latent_frames`."""

    name: str
    about: str
    model_part: str | None = None
    inputs: Mapping[str, PortSpec]
    outputs: Mapping[str, PortType]
    params: Mapping[str, ParamSpec] = attrs.Factory(dict)
    repeats: str = ""

    @property
    def stream_inputs(self) -> tuple[str, ...]:
        """Name the inputs that take a stream."""
        return tuple(n for n, port in self.inputs.items() if port.type is PortType.FRAMES)

    @property
    def stream_outputs(self) -> tuple[str, ...]:
        """Name the outputs that give a stream."""
        return tuple(name for name, kind in self.outputs.items() if kind is PortType.FRAMES)


def _params(*params: ParamSpec) -> dict[str, ParamSpec]:
    return {param.name: param for param in params}


_TEXT = Wanted(type=ValueType.TEXT)
_SIZE = PortSpec(
    PortType.SIZE, wanted=Wanted(type=ValueType.SIZE, rule=Rule.SIZE),
    about="Width*height in pixels.",
)  # fmt: skip
_FPS = ParamSpec(
    name="fps", type=ValueType.FLOAT, default=16.0, minimum=1, maximum=240,
    about="Frames a second; 23.976, 29.97 and 59.94 are the broadcast rates, n*1000/1001.",
)  # fmt: skip
_RATE = PortSpec(
    PortType.FLOAT, required=False, wanted=Wanted(type=ValueType.FLOAT, minimum=1, maximum=240),
    about="Frames a second at which a video's frames are taken; its own rate without.",
)  # fmt: skip
_FRAMES = PortSpec(
    PortType.INT,
    wanted=Wanted(type=ValueType.INT, minimum=1, maximum=MOST_FRAMES, rule=Rule.FRAMES),
    about="Frames of the video, 4n+1.",
)


def _file(kind: PortType, about: str) -> PortSpec:
    return PortSpec(kind, required=False, wanted=Wanted(type=ValueType(kind)), about=about)


_REFERENCES = _file(PortType.IMAGES, "Pictures of what is to be seen, in this order: a.png,b.png.")


_TOKEN_TIMESTEPS = {
    word: f"whose timestep a token has is 'token_timesteps: {word}'" for word in ("own", "shared")
}
_CACHE = (
    ParamSpec(
        name="cache",
        type=ValueType.CHOICE,
        default="none",
        choices=STEP_CACHES,
        about="Skip steps whose result can be guessed from one before: faster, another video.",
    ),
    ParamSpec(
        name="cache_threshold",
        type=ValueType.FLOAT,
        default=0.0,
        minimum=0,
        maximum=100,
        about="How much error a cache lets add up before it computes again; 0 skips nothing.",
    ),
    ParamSpec(
        name="cache_retention",
        type=ValueType.FLOAT,
        default=0.2,
        minimum=0,
        maximum=1,
        about="magcache: the share of the stage's steps that are computed first.",
    ),
    ParamSpec(
        name="cache_k",
        type=ValueType.INT,
        default=2,
        minimum=1,
        maximum=1000,
        about="magcache: the most steps that are skipped in a row.",
    ),
    ParamSpec(
        name="cache_coefficients",
        type=ValueType.NUMBERS,
        default="",
        about="teacache: the polynomial, highest power first; empty: the model's published one.",
    ),
    ParamSpec(
        name="cache_ratios",
        type=ValueType.NUMBERS,
        default="",
        minimum=0,
        maximum=100,
        about="magcache: the ratios from the second step on, with and without the prompt by turns; "
        "empty: the model's published ones.",
    ),
)


_OPS = (
    OpSpec(
        name="encode_text",
        about="Turn the prompt and the negative prompt into text embeddings.",
        model_part="text_encoder",
        inputs={
            "prompt": PortSpec(PortType.TEXT, wanted=_TEXT, about="What the video shows."),
            "negative_prompt": PortSpec(
                PortType.TEXT, required=False, wanted=_TEXT, about="What it must not show."
            ),
        },
        outputs={"text": PortType.TEXT_EMBEDDING},
        params=_params(
            ParamSpec(
                name="max_tokens", type=ValueType.INT, default=512, minimum=1, maximum=512,
                about="Tokens of a prompt that count; the rest is cut off.",
            ),
        ),
    ),
    OpSpec(
        name="encode_image",
        about="Turn pictures into image embeddings, one set of tokens a picture.",
        model_part="image_encoder",
        inputs={
            "image": _file(PortType.IMAGE, "The first frame, a picture file."),
            "last_image": _file(PortType.IMAGE, "The last frame, a picture file."),
        },
        outputs={"image": PortType.IMAGE_EMBEDDING},
    ),
    OpSpec(
        name="encode_frames",
        about="Turn pictures or a video into latents; frames that are not given are grey.",
        model_part="vae",
        inputs={
            "image": _file(PortType.IMAGE, "The first frame, a picture file."),
            "last_image": _file(PortType.IMAGE, "The last frame, a picture file."),
            "video": _file(PortType.VIDEO, "All frames, a video file."),
            "size": _SIZE,
            "frames": _FRAMES,
            "fps": _RATE,
        },
        outputs={"latents": PortType.LATENTS, "mask": PortType.MASK},
        params=_params(
            ParamSpec(
                name="fit", type=ValueType.CHOICE, default="stretch", choices=("stretch", "crop"),
                about="How a picture of another shape gets the size: stretched, or its middle.",
            ),
        ),
    ),
    OpSpec(
        name="encode_control",
        about="Turn a video, the mask of what to change and reference pictures into what a VACE "
        "model is told; without a video every frame is free.",
        model_part="vae",
        inputs={
            "video": _file(PortType.VIDEO, "The frames to keep or to follow, a video file."),
            "mask": _file(PortType.VIDEO, "What of the video is made anew: white; a video file."),
            "reference_images": _REFERENCES,
            "size": _SIZE,
            "frames": _FRAMES,
            "fps": _RATE,
        },
        outputs={"control": PortType.CONTROL},
    ),
    OpSpec(
        name="noise",
        about="Make the noise a video starts from, on the CPU, the same for a seed everywhere.",
        inputs={
            "size": _SIZE,
            "frames": _FRAMES,
            "seed": PortSpec(
                PortType.INT,
                wanted=Wanted(type=ValueType.INT, minimum=0, maximum=LARGEST_SEED),
                about="The same seed gives the same video.",
            ),
            "reference_images": _REFERENCES,
        },
        outputs={"latents": PortType.LATENTS},
    ),
    OpSpec(
        name="denoise",
        about="Turn noise into the latents of a video, step by step, as the text says.",
        model_part="transformer",
        inputs={
            "text": PortSpec(PortType.TEXT_EMBEDDING, about="Embeddings of the prompts."),
            "latents": PortSpec(PortType.LATENTS, about="The noise to start from."),
            "image": PortSpec(
                PortType.IMAGE_EMBEDDING, required=False,
                about="Embeddings of pictures, for models with a cross-attention to them.",
            ),
            "condition": PortSpec(
                PortType.LATENTS, required=False,
                about="Latents of what is given: beside the noise in the input's channels.",
            ),
            "mask": PortSpec(
                PortType.MASK, required=False, about="Which frames of the condition are given."
            ),
            "control": PortSpec(
                PortType.CONTROL, required=False, about="What a VACE model is told beside the text."
            ),
            "source": PortSpec(
                PortType.LATENTS, required=False,
                about="Latents of a video to start from, with as much noise as strength says.",
            ),
            "history": PortSpec(
                PortType.HISTORY, required=False,
                about="The sampler's, of the stage that ran the steps before.",
            ),
        },
        outputs={"latents": PortType.LATENTS, "history": PortType.HISTORY},
        params=_params(
            ParamSpec(
                name="steps", type=ValueType.INT, default=50, minimum=1, maximum=1000,
                about="Steps of the sampler: more take longer and look cleaner.",
            ),
            ParamSpec(
                name="sampler", type=ValueType.CHOICE, default="unipc",
                choices=("unipc", "dpm++", "euler"), about="How a step is taken.",
            ),
            ParamSpec(
                name="shift", type=ValueType.FLOAT, default=5.0, minimum=0.01, maximum=100,
                about="Moves the steps towards the noisy end.",
            ),
            ParamSpec(
                name="grid", type=ValueType.CHOICE, default="diffusers", choices=SAMPLER_GRIDS,
                about="The noise levels of the steps: diffusers' or those of Wan's own code, which "
                "has none for euler.",
            ),
            ParamSpec(
                name="guidance", type=ValueType.FLOAT, default=5.0, minimum=0, maximum=100,
                about="How strongly the prompt pulls; each step runs the model twice for it.",
            ),
            ParamSpec(
                name="noise_from", type=ValueType.FLOAT, default=1.0, minimum=0, maximum=1,
                about="Only the steps below this share of noise; 1: from the first.",
            ),
            ParamSpec(
                name="noise_to", type=ValueType.FLOAT, default=0.0, minimum=0, maximum=1,
                about="Only the steps at this share of noise or above it; 0: to the last.",
            ),
            ParamSpec(
                name="strength", type=ValueType.FLOAT, default=1.0, minimum=0, maximum=1,
                about="The share of the steps that are run on a source: the last ones.",
            ),
            ParamSpec(
                name="timesteps", type=ValueType.NUMBERS, default="", rule=Rule.DESCENDING,
                minimum=0.001, maximum=1000, hints=_TOKEN_TIMESTEPS,
                about="The timesteps themselves, one a step, before the shift; empty: the "
                "sampler's own. Euler alone takes them.",
            ),
            ParamSpec(
                name="token_timesteps", type=ValueType.CHOICE, default="shared",
                choices=("shared", "own"),
                about="shared by all tokens; own: a token has its own, as TI2V models want it.",
            ),
            *_CACHE,
            ParamSpec(
                name="control_scale", type=ValueType.FLOAT, default=1.0, minimum=0, maximum=10,
                about="How strongly the control pulls.",
            ),
            ParamSpec(
                name="attention", type=ValueType.CHOICE, default="native",
                choices=ATTENTION_BACKENDS,
                about="The kernel that attends, by its name in diffusers; all but native need "
                "CUDA, some a package.",
            ),
        ),
        repeats="steps",
    ),
    OpSpec(
        name="decode_frames",
        about="Turn latents into frames, one latent frame at a time.",
        model_part="vae",
        inputs={"latents": PortSpec(PortType.LATENTS, about="The latents to decode.")},
        outputs={"frames": PortType.FRAMES},
        repeats="latent_frames",
    ),
    OpSpec(
        name="write_video",
        about="Write frames to an mp4 file in the run folder.",
        inputs={"frames": PortSpec(PortType.FRAMES, about="The frames to write.")},
        outputs={"file": PortType.FILE},
        params=_params(
            _FPS,
            ParamSpec(
                name="name", type=ValueType.FILE_NAME, default="video.mp4",
                about="The file's name in the run folder.",
            ),
        ),
    ),
    OpSpec(
        name="write_picture",
        about="Write the one frame there is to a PNG file in the run folder.",
        inputs={"frames": PortSpec(PortType.FRAMES, about="The frame to write.")},
        outputs={"file": PortType.FILE},
        params=_params(
            ParamSpec(
                name="name", type=ValueType.PICTURE_NAME, default="picture.png",
                about="The file's name in the run folder.",
            ),
        ),
    ),
    OpSpec(
        name="write_frames",
        about="Write frames as numbered PNG files to a folder in the run folder.",
        inputs={"frames": PortSpec(PortType.FRAMES, about="The frames to write.")},
        outputs={"folder": PortType.FOLDER},
        params=_params(
            ParamSpec(
                name="name", type=ValueType.FOLDER_NAME, default="frames",
                about="The folder's name in the run folder.",
            ),
        ),
    ),
)  # fmt: skip

OPS: Mapping[str, OpSpec] = {op.name: op for op in _OPS}
