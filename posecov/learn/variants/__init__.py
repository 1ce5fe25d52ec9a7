"""Smaller and faster forms of a deployed model, each held against the model it comes from before it is written.

`half` and `integer` change what lies below the heads (`graph`); `whole` adds the crop map. `people` and `judging` measure,
`making` does all of it for a file, and `table` says what came of it.
"""
