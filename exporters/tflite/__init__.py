"""Target ``tflite``: one ``model.tflite`` for LiteRT."""
