"""How much dense a model is worth: where its loss stands on a ladder of dense models. Arrays in, numbers out."""
