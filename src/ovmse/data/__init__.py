"""RawEpisode play: the format of datasets, what comes in and goes out, and the checks of its values."""
