"""Everything that needs torch: data sets, model, losses, pseudo-labels, training, export."""
