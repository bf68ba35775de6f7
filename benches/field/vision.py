"""Models of images from timm and torchvision, small and with random weights: classes, boxes, masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from case import Batch, Case
from data import boxed_digits, digits, masked_digits
from torch import nn

__all__ = ["CASES"]


# --- timm, by the names that it registers -----------------------------------------------------------------------------


def _timm(name: str, family: str, rate: float = 1e-3, *, sgd: bool = False, **options: Any) -> Case:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **options)

    return Case(name, family, "timm", build, digits, rate=rate, sgd=sgd)


_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 6, "num_heads": 4}
_STAGES: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 96)}
_RESIDUAL: dict[str, Any] = {"layers": (1, 1, 1, 1), "sgd": True}

_REGISTERED = [
    _timm("vit_tiny_patch16_224", "vision transformer", **_VIT),
    _timm("vit_base_patch16_clip_224", "vision transformer", **_VIT),
    _timm("deit3_small_patch16_224", "vision transformer with layer scale", **_VIT),
    _timm("deit_tiny_distilled_patch16_224", "vision transformer, distilled", **_VIT),
    _timm("beit_base_patch16_224", "vision transformer, gated", **_VIT),
    _timm("eva02_tiny_patch14_224", "vision transformer with SwiGLU", **_VIT),
    _timm("cait_xxs24_224", "vision transformer with class attention", **_VIT),
    _timm("xcit_nano_12_p16_224", "vision transformer with cross-covariance", img_size=32, depth=4, embed_dim=64),
    _timm(
        "swin_tiny_patch4_window7_224",
        "vision transformer with windows",
        img_size=32,
        window_size=4,
        embed_dim=32,
        depths=(2, 2),
        num_heads=(2, 4),
    ),
    _timm("pvt_v2_b0", "vision transformer, pyramid", depths=(1, 1, 1, 1), embed_dims=(16, 32, 80, 128)),
    _timm("convnext_atto", "ConvNeXt", **_STAGES),
    _timm("convnextv2_atto", "ConvNeXt", **_STAGES),
    _timm("resnet18", "residual net", 0.02, channels=(16, 32, 48, 64), **_RESIDUAL),
    _timm("resnet14t", "residual net", 0.02, channels=(8, 16, 24, 32), stem_width=8, **_RESIDUAL),
    _timm("densenet121", "dense net", 0.02, sgd=True, growth_rate=8, block_config=(2, 2, 2, 2)),
    _timm("mobilenetv3_small_050", "mobile net"),
]


# --- timm, from its parts: these take no smaller size by name ---------------------------------------------------------


def _metaformer(kind: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models import metaformer as parts

        if kind == "poolformer":
            return parts.MetaFormer(
                num_classes=10,
                downsample_norm=None,
                mlp_act=nn.GELU,
                mlp_bias=True,
                norm_layers=parts.GroupNorm1,
                layer_scale_init_values=1e-5,
                res_scale_init_values=None,
                use_mlp_head=False,
                **_STAGES,
            )
        return parts.MetaFormer(
            num_classes=10,
            token_mixers=[parts.SepConv, parts.SepConv, parts.Attention, parts.Attention],
            norm_layers=[parts.LayerNorm2dNoBias] * 2 + [parts.LayerNormNoBias] * 2,
            **_STAGES,
        )

    return build


def _mixer(kind: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models import mlp_mixer as parts

        options: dict[str, Any] = {
            "mixer": {},
            "resmlp": {"mlp_ratio": 4, "block_layer": parts.ResBlock, "norm_layer": parts.Affine},
            "gmlp": {"mlp_ratio": 6, "block_layer": parts.SpatialGatingBlock, "mlp_layer": parts.GatedMlp},
        }[kind]
        return parts.MlpMixer(num_classes=10, img_size=32, patch_size=8, num_blocks=6, embed_dim=64, **options)

    return build


def _regnet(**options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models.regnet import RegNet, RegNetCfg

        return RegNet(
            RegNetCfg(depth=6, w0=32, wa=36.0, wm=2.0, group_size=8, stem_width=16, **options), num_classes=10
        )

    return build


def _normaliser_free(kind: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models.nfnet import NfCfg, NormFreeNet

        options: dict[str, Any] = {
            "nf_resnet": {"stem_type": "7x7_pool", "bottle_ratio": 0.25, "act_layer": "relu"},
            "nf_regnet": {"bottle_ratio": 2.25, "num_features": 128, "reg": True, "group_size": 8, "attn_layer": "se"},
            "dm_nfnet": {
                "stem_type": "deep_quad",
                "group_size": 8,
                "extra_conv": True,
                "gamma_in_act": True,
                "same_padding": True,
                "skipinit": True,
                "num_features": 128,
                "act_layer": "gelu",
                "attn_layer": "se",
            },
        }[kind]
        if "attn_layer" in options:
            options["attn_kwargs"] = {"rd_ratio": 0.5}
        config = NfCfg(depths=(1, 1, 1, 1), channels=(16, 32, 48, 64), stem_chs=16, **options)
        return NormFreeNet(config, num_classes=10)

    return build


def _built(
    name: str, family: str, build: Callable[[], nn.Module], rate: float = 1e-3, *, sgd: bool = False, size: int = 32
) -> Case:
    return Case(name, family, "timm", build, lambda: digits(size), rate=rate, sgd=sgd)


_BUILT = [
    _built("poolformer", "pooling for attention, layer scale", _metaformer("poolformer"), size=64),
    _built("caformer", "convolution and attention", _metaformer("caformer")),
    _built("mlp_mixer", "MLP mixer", _mixer("mixer")),
    _built("resmlp", "MLP mixer, gated", _mixer("resmlp")),
    _built("gmlp", "MLP mixer, gated", _mixer("gmlp")),
    _built("regnetx", "RegNet", _regnet(), 0.02, sgd=True),
    _built("regnety", "RegNet", _regnet(se_ratio=0.25), 0.02, sgd=True),
    _built("nf_resnet", "without normalisation", _normaliser_free("nf_resnet"), 0.01, sgd=True),
    _built("nf_regnet", "without normalisation", _normaliser_free("nf_regnet")),
    _built("dm_nfnet", "without normalisation, gated", _normaliser_free("dm_nfnet")),
]


# --- torchvision ------------------------------------------------------------------------------------------------------


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 1)], num_classes=10)


def _vision_transformer() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=6, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)


def _shufflenet() -> nn.Module:
    from torchvision.models import shufflenet_v2_x0_5

    return shufflenet_v2_x0_5(weights=None, num_classes=10)


def _small_backbone() -> nn.Module:
    """One map of features, an eighth of the image wide."""
    layers: list[nn.Module] = []
    for channels, wider in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 32
    return backbone


_DETECTOR: dict[str, Any] = {"num_classes": 11, "min_size": 64, "max_size": 64}


def _anchors() -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    return AnchorGenerator(sizes=((16, 24, 32),), aspect_ratios=((0.5, 1.0, 2.0),))


def _faster_rcnn() -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.ops import MultiScaleRoIAlign

    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=4, sampling_ratio=1)
    return FasterRCNN(
        _small_backbone(),
        rpn_anchor_generator=_anchors(),
        box_roi_pool=pool,
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=50,
        box_batch_size_per_image=32,
        box_detections_per_img=10,
        **_DETECTOR,
    )


def _retina_net() -> nn.Module:
    from torchvision.models.detection import RetinaNet

    return RetinaNet(_small_backbone(), anchor_generator=_anchors(), **_DETECTOR)


def _lraspp() -> nn.Module:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)


def _fcn() -> nn.Module:
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    backbone = IntermediateLayerGetter(resnet18(weights=None), return_layers={"layer2": "out"})
    return FCN(backbone, FCNHead(128, 2), None)


def _detects(model: nn.Module, batch: Batch) -> torch.Tensor:
    return torch.stack(list(model(batch["images"], batch["targets"]).values())).sum()


def _segments(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["images"])["out"], batch["labels"])


_TORCHVISION = [
    Case("ConvNeXt", "ConvNeXt", "torchvision", _convnext, digits),
    Case("VisionTransformer", "vision transformer", "torchvision", _vision_transformer, digits),
    Case("shufflenet_v2_x0_5", "mobile net", "torchvision", _shufflenet, digits),
    Case("FasterRCNN", "detection", "torchvision", _faster_rcnn, boxed_digits, _detects, rate=3e-4),
    Case("RetinaNet", "detection", "torchvision", _retina_net, boxed_digits, _detects, rate=3e-4),
    Case("lraspp_mobilenet_v3", "segmentation", "torchvision", _lraspp, masked_digits, _segments),
    Case(
        "fcn_resnet18",
        "segmentation",
        "torchvision",
        _fcn,
        masked_digits,
        _segments,
        rate=0.02,
        sgd=True,
        slow_in_float16=True,
    ),
]

CASES = [*_REGISTERED, *_BUILT, *_TORCHVISION]
