"""The host's loop around the compiled part: set up, pretrain, hand over, fine-tune, finish."""
