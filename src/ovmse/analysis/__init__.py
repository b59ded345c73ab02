"""The numbers of finished runs: what each is judged by, and what several say together."""
