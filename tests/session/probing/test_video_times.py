"""What a video's encoder takes, on a clip that is there for nothing else."""

from wanflow.session.probing.video_times import _clip, video_times


def test_both_are_told(tmp_path):
    """As a machine takes them: seconds, and bytes a second."""
    samples = video_times(tmp_path)
    assert samples.keys() == {"video_seconds", "video_rate"}
    assert 0 < samples["video_seconds"].value < 10
    assert 1e4 < samples["video_rate"].value < 1e11


def test_the_clip_moves():
    """A frame that is the one before costs an encoder nothing."""
    first, second = _clip(2, 32)
    assert (first[:, :24] == second[:, 8:]).all()
    assert (first != second).any()
