"""Mathematics without disk or screen: types, networks, mixers, values, schedules, and how actions are selected."""
