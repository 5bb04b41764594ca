"""Forms of the graph around a MatMul. Each takes a net and returns its outputs."""

from __future__ import annotations

from collections.abc import Callable

from fused_kernels import Net, Shape


def alone(net: Net) -> list[str]:
    return [net.matmul("x")]


def bias(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.weight(16))]


def bias_first(net: Net) -> list[str]:
    return [net.add("Add", net.weight(16), net.matmul("x"))]


def bias_softmax(net: Net) -> list[str]:
    return [net.add("Softmax", *bias(net))]


def bias_relu_matmul(net: Net) -> list[str]:
    return [net.matmul(net.add("Relu", *bias(net)))]


def bias_tanh_bias(net: Net) -> list[str]:
    h = net.add("Tanh", *bias(net))
    return [net.add("Add", net.matmul(h), net.weight(16))]


def bias_matmul(net: Net) -> list[str]:
    return [net.matmul(*bias(net))]


def bias_read_rounded_and_in_float(net: Net) -> list[str]:
    (h,) = bias(net)
    return [net.matmul(h), net.add("Softmax", h)]


def read_rounded_and_in_float(net: Net) -> list[str]:
    h = net.matmul("x")
    return [net.matmul(h), net.add("Softmax", h)]


def read_by_two_in_float(net: Net) -> list[str]:
    h = net.matmul("x")
    return [net.add("Softmax", h), net.add("Tanh", h)]


def output_and_read(net: Net) -> list[str]:
    h = net.matmul("x")
    return [h, net.matmul(h)]


def residual(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), "x")]


def residual_second(net: Net) -> list[str]:
    return [net.add("Add", "x", net.matmul("x"))]


def bias_residual(net: Net) -> list[str]:
    return [net.add("Add", *bias(net), "x")]


def two_added(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.matmul("x"))]


def scalar_added(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.weight(1))]


def scaled(net: Net) -> list[str]:
    return [net.add("Softmax", net.add("Mul", net.matmul("x"), net.weight(1)))]


def gelu(net: Net) -> list[str]:
    (h,) = bias(net)
    part = net.add("Add", net.add("Erf", h), net.weight(1))
    return [net.matmul(net.add("Mul", h, part))]


def relu_read_beside(net: Net) -> list[str]:
    h = net.matmul("x")
    return [net.matmul(net.add("Relu", h)), net.add("Softmax", h)]


def relu_bias(net: Net) -> list[str]:
    h = net.add("Relu", net.matmul("x"))
    return [net.add("Softmax", net.add("Add", h, net.weight(16)))]


FORMS: list[Callable[[Net], list[str]]] = [
    *(alone, bias, bias_first, bias_softmax, bias_relu_matmul, bias_tanh_bias),
    *(bias_matmul, bias_read_rounded_and_in_float, read_rounded_and_in_float),
    *(read_by_two_in_float, output_and_read, residual, residual_second),
    *(bias_residual, two_added, scalar_added, scaled, gelu),
    *(relu_read_beside, relu_bias),
]
SHAPES: dict[str, Shape] = {
    "matrix": (4, 16),
    "open matrix": ("n", 16),
    "fixed stack": (2, 4, 16),
    "open stack": ("b", "s", 16),
    "half-open stack": ("b", 4, 16),
    "stack of stacks": (1, 2, 3, 16),
}

SIGNED: list[Callable[[Net], list[str]]] = [
    *(alone, bias, bias_first, bias_softmax, bias_relu_matmul, bias_tanh_bias),
    *(residual, scaled, gelu, relu_bias),
]
