"""What the server remembers of a session: as little as it can, of a bounded number of them."""

from gradio import Blocks
from gradio.blocks import Block
from gradio.state_holder import SessionState, StateHolder


class SmallSession(SessionState):
    """Without gradio's copy of every component's configuration, which only its deep links read (.3 MB, 13 ms)."""

    def __init__(self, blocks: Blocks):
        super().__init__(_NoBlocks(blocks))

    def __setitem__(self, key: int, value: object) -> None:
        super().__setitem__(key, value)
        self.config_values.pop(key, None)

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: object) -> None:
        pass


class _NoBlocks:
    """Stands for blocks that have no component to copy the configuration of."""

    def __init__(self, blocks: Blocks):
        self.default_config = blocks.default_config
        self.blocks: dict[int, Block] = {}


class Sessions(StateHolder):
    """The sessions by their hash, the ones that were used last."""

    def __init__(self, blocks: Blocks, capacity: int):
        super().__init__()
        self.blocks, self.capacity = blocks, capacity
        blocks.state_holder = self

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = SmallSession(self.blocks)
        return super().__getitem__(session_id)
