"""Films and cameras: frames in, people followed from frame to frame, annotated films and tables out.

The way of a frame: `reading` (files, URLs) or `camera` (live) -> `people` (the network, and who is who) -> `drawing.draw_poses`
-> `recording` (`results`, `writing`, `tables`) or `showing`. `pipeline` runs these at the same time, each in its own thread.
"""
