# JupyterLab with the chapters, for a class: the same versions on every machine, no GPU, no network once it is built.
#
#   docker build -t purification-nb .
#   docker run --rm -p 8888:8888 purification-nb        prints the address to open, with its token
#
# Assignments (`make course` writes them): add  -v "$PWD/course/release:/home/student/release"  to the second command.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 student

# What decides the installation is copied first, so that an edited chapter does not install everything again.
WORKDIR /opt/purification_nb
COPY settings.ini setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY purification_nb purification_nb
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt ".[notebooks,course]"

USER student
WORKDIR /home/student
COPY --chown=student nbs nbs
COPY .binder/postBuild /opt/purification_nb/
RUN /opt/purification_nb/postBuild

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--ServerApp.root_dir=/home/student"]
