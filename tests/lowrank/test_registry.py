import pytest

from toolkit.lowrank import SBPCA, Estimator, estimator_knobs, estimator_names, make_estimator


def test_names_and_knobs():
    assert {"sgd", "sbpca", "svd"} <= set(estimator_names())
    assert list(estimator_names()) == sorted(estimator_names())
    assert {"rank", "block_size", "seed"} <= set(estimator_knobs("sbpca"))
    assert estimator_knobs("sgd") == ()


@pytest.mark.parametrize("name", estimator_names())
def test_every_name_makes_its_estimator_with_defaults(name):
    estimator = make_estimator(name)
    assert isinstance(estimator, Estimator) and estimator.name == name


def test_knobs_reach_the_estimator():
    estimator = make_estimator("sbpca", rank=3, block_size=5)
    assert isinstance(estimator, SBPCA) and (estimator.rank, estimator.block_size) == (3, 5)


def test_unknown_name_lists_what_is_allowed():
    with pytest.raises(ValueError, match=r"one of .*sbpca.*got 'pca'"):
        make_estimator("pca")
    with pytest.raises(ValueError, match=r"one of .*sbpca.*got 'pca'"):
        estimator_knobs("pca")


def test_unknown_knob_lists_what_is_allowed():
    with pytest.raises(ValueError, match="'svd' takes the knobs rank; got block_size"):
        make_estimator("svd", rank=2, block_size=8)
