"""An output that tells whether somebody is in a crop, learned on an exported model and added to its graph.

`places` makes pictures of which it is known who is in them, `looking` collects what the network sees in crops of them, `judge`
learns from that, `graph` puts the judge into the model, and `making` does all of it for a file.
"""
