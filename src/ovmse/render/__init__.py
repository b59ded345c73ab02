"""What pages and figures are drawn with."""
