"""OVMSE: Offline Value Function Memory and Sequential Exploration (Zhong et al. 2024, arXiv 2410.19450)."""

from ovmse.core.schedules import constant, linear
from ovmse.methods.exploration import Sequential
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method
from ovmse.methods.targets import OfflineValueMemory

OVMSE = Method(
    offline_loss=CQL(alpha=3.0),
    online_target=OfflineValueMemory(weight=linear(1.0, 0.1)),  # y + λ max(0, memory − y)
    explore=Sequential(epsilon=linear(0.1, 0.02), per_agent=True),
    offline_share=constant(0.1),
)
