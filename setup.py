"Everything a build needs is read from settings.ini, the one place that names versions, owner and requirements."
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
extras = {name.removesuffix('_requirements'): shlex.split(cfg[name]) for name in cfg if name.endswith('_requirements')}
extras['dev'] += extras['eval'] + extras['tensorboard']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    license='MIT', url=cfg['git_url'], author=cfg['author'], author_email=cfg['author_email'],
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']),
    package_data={cfg['lib_name']: ['py.typed', '*.json', 'shipped/*']},
    python_requires='>=' + cfg['min_python'],
    install_requires=shlex.split(cfg['requirements']), extras_require=extras,
    entry_points={'console_scripts': shlex.split(cfg['console_scripts'])},
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: ' + cfg['audience'],
                 'Programming Language :: Python :: 3 :: Only'],
    zip_safe=False,
)
