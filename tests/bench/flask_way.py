"""The usual way to put a model behind HTTP, as tutorials show it: Flask, joblib, a DataFrame of one row."""

import os

import joblib
import pandas as pd
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
model = joblib.load(os.environ["MODEL"])


@app.post("/predict")
def predict() -> Response:
    """Answer one row."""
    return jsonify(score=float(model.predict_proba(pd.DataFrame([request.get_json()]))[0, 1]))
