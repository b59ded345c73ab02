"""Public datasets of others: where they are, in what format, under which terms. Only stated facts; the rest is empty.

Addresses: `VAULT_INFO` in og_marl/vault_utils/download_vault.py of github.com/instadeepai/og-marl. Licence of OG-MARL's
own datasets: what the README of that repository says of the repository. For those that it converted from earlier works
no statement was found. Of the tasks there only those with discrete actions are listed, which is what is learned here.
"""

from typing import NamedTuple


class Download(NamedTuple):
    """One archive. bytes and sha256 (hex) are checked where they are known. page: what the authors say of it."""

    url: str
    env: str
    format: str
    licence: str
    page: str
    bytes: int | None = None
    sha256: str | None = None


HOST = "https://huggingface.co/datasets/InstaDeepAI/og-marl/resolve/main"
OG_MARL = "https://github.com/instadeepai/og-marl"
APACHE = "Apache-2.0"


def _shelf(prefix: str, folder: str, env: str, tasks: str, licence: str, page: str) -> dict[str, Download]:
    """A folder of archives, ``TASK.zip``, whose names begin alike."""
    return {
        f"{prefix}-{env}-{task}": Download(f"{HOST}/{folder}/{task}.zip", f"{env}:{task}", "vault", licence, page)
        for task in tasks.split()
    }


DOWNLOADS = {
    **_shelf("og-marl", "core/smac_v1", "smac", "3m 8m 2s3z 5m_vs_6m 3s5z_vs_3s6z", APACHE, OG_MARL),
    **_shelf("og-marl", "core/smac_v2", "smacv2", "terran_5_vs_5 terran_10_vs_10 zerg_5_vs_5", APACHE, OG_MARL),
    **_shelf("cfcql", "prior_work/cfcql/smac_v1", "smac", "2s3z 3s_vs_5z 5m_vs_6m 6h_vs_8z", "",
             "https://github.com/thu-rllab/CFCQL"),
    **_shelf("omiga", "prior_work/omiga/smac_v1", "smac", "2c_vs_64zg 5m_vs_6m 6h_vs_8z corridor", "",
             "https://github.com/ZhengYinan-AIR/OMIGA"),
    **_shelf("alberdice", "prior_work/alberdice/rware", "rware",
             "tiny-2ag tiny-4ag tiny-6ag small-2ag small-4ag small-6ag", "", OG_MARL),
}  # fmt: skip
