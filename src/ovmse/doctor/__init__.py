"""The dataset doctor: what is wrong with a dataset, what is in it, who played it, and how to learn from it.

`files` finds damaged files and hands out blocks of episodes, `tally` adds blocks up, `oddities` and `numbers` say what
the sums tell, `clone` and `mixture` look at the policy behind the play, `verdict` is a table of rules on top, and
`tables`, `figures` and `page` show it all. `ovmse.data.inspect.inspect` runs them in this order.
"""
