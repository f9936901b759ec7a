"""The synthetic patient: a parametric pelvis as CT, truth labels and truth landmarks."""
