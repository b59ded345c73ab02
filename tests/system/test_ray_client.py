"""Ray's address: one where nothing answers is refused at once."""

import socket
import sys

import pytest
from support.ray_stand_in import stand_in

from ovmse.core.errors import UserError
from ovmse.system.ray_client import connect


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_where_nothing_answers_is_refused(monkeypatch, prefix):
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{prefix}127.0.0.1:{server.getsockname()[1]}"
        connect(address, 1)
    with pytest.raises(UserError, match=f"no Ray answers at '{address}'.*Is it started"):
        connect(address, 1)


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "127.0.0.1:99999"])
def test_an_address_that_can_not_be_is_refused(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    with pytest.raises(UserError, match="no Ray answers at"):
        connect(address, 1)
